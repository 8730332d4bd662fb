//! The binary `bucketmq-operator`.

fn main() -> std::process::ExitCode {
    bucketmq_operator::cli::run()
}
