//! Command line.
use std::process::ExitCode;
pub fn run() -> ExitCode {
    for crd in crate::crd::all() {
        let name = kube::ResourceExt::name_any(&crd);
        std::fs::write(format!("/work/dev/s5/{name}.yaml"), serde_saphyr::to_string(&crd).unwrap()).unwrap();
    }
    ExitCode::SUCCESS
}
