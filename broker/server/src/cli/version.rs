//! `bucketmq version`.

use std::process::ExitCode;

use clap::Args;

/// What `version` takes.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// As an object, for programs.
    #[arg(long)]
    json: bool,
}

impl VersionArgs {
    /// Says it.
    pub fn run(self) -> ExitCode {
        super::print(&text(self.json))
    }
}

fn text(json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    match json {
        true => format!(
            "{}\n",
            serde_json::json!({ "name": "bucketmq", "version": version, "mqtt": ["3.1", "3.1.1", "5.0"], "os": os, "arch": arch })
        ),
        false => format!("bucketmq {version} ({os} {arch}), MQTT 3.1, 3.1.1 and 5.0\n"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn people_and_programs_read_the_same_version() {
        let json: serde_json::Value = serde_json::from_str(&super::text(true)).unwrap();
        assert!(super::text(false).contains(json["version"].as_str().unwrap()));
    }
}
