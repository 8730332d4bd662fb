//! What a listener behind `--secured` has to be set up with: the users, passwords and rules its tests rely on.

/// The user the tests log in as.
pub const USER: &str = "conformance";
/// Another user with the same rights.
pub const OTHER_USER: &str = "conformance2";
/// A user who logs in by SCRAM-SHA-256, where the broker offers that; with the same password and rights.
pub const SCRAM_USER: &str = "conformance-scram";
/// The password of all; `brokers/bucketmq-users` holds its hashes.
pub const PASSWORD: &str = "3f1c9a5e7b2d4860a1c3e5f708192a3b";
/// No user may publish or subscribe below this; everything else is allowed.
pub const FORBIDDEN: &str = "forbidden/";
