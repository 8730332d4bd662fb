//! One Client's protocol state, without I/O, clock or async.
