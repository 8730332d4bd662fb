//! The binary `bucketmq`.

use std::process::ExitCode;

/// Connections allocate small things on one thread and free them on another all day; this allocator does that without a lock, gives memory
/// back while nothing happens, and is the smallest of three (`broker/decisions/0008-allocator.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    forgo_huge_pages();
    bucketmq::cli::main()
}

/// Huge pages round what a small process uses up to 2 MiB again and again. Memory per connection is the product, so this process does without.
fn forgo_huge_pages() {
    // SAFETY: PR_SET_THP_DISABLE takes integers only and changes a flag of this process. Where the kernel does not know it, nothing changes.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}
