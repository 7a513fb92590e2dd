//! A real server that speaks S3, with a bucket for each registry. `cargo xtask soak` says where
//! its program is (`SENTINEL_S3_SERVER`) and with which credentials it is asked.

use std::path::Path;

use sentinel_registry_service::Place;
use sentinel_test_services::S3;

pub(crate) struct Buckets {
    s3: S3,
    _folder: tempfile::TempDir,
}

impl Buckets {
    pub(crate) fn start() -> Self {
        let program = std::env::var_os("SENTINEL_S3_SERVER");
        let program = program.expect("run this with `cargo xtask soak`, which fetches the server");
        let folder = tempfile::tempdir().unwrap();
        let s3 = S3::start(Path::new(&program), folder.path()).unwrap();
        Self { s3, _folder: folder }
    }

    /// A bucket of that name, which is made.
    pub(crate) fn place(&self, bucket: &str) -> Place {
        self.s3.make(bucket).unwrap();
        Place::S3 {
            bucket: bucket.to_owned(),
            prefix: "of/tests".to_owned(),
            endpoint: Some(self.s3.endpoint()),
            region: None,
        }
    }
}
