//! The binary `bucketmq`.

use std::process::ExitCode;

/// Connections allocate small things on one thread and free them on another all day; this allocator does that without a lock and gives
/// memory back (`broker/decisions/` has the comparison).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    bucketmq::cli::main()
}
