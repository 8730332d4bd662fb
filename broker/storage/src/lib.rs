//! Message log and retained messages, by shard.
