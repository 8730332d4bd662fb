//! Compiles `preload/clock.rs`, which goes into the harness as bytes: a broker is started with it where its clock is to be set.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=preload/clock.rs");
    let library = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where")).join("clock.so");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        // Elsewhere a process finds its C library in other ways, and the harness says so.
        std::fs::write(&library, []).expect("an empty file");
        return;
    }
    let rustc = env::var_os("RUSTC").expect("cargo says which");
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-C", "opt-level=2", "-C", "strip=symbols"]);
    command.arg("--target").arg(env::var_os("TARGET").expect("cargo says which")).arg("-o").arg(&library).arg("preload/clock.rs");
    let status = command.status().expect("rustc starts");
    assert!(status.success(), "preload/clock.rs does not compile");
}
