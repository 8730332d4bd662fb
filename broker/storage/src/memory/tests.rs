//! What only the memory store promises.
