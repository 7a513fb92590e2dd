//! The endpoints of the distribution specification 1.1, each with the statuses and headers it
//! must answer with. The rows run in order against one registry, as the specification's own
//! suite does.

use crate::running::rows::{check, row};
use crate::running::{self, OCI_INDEX, OCI_MANIFEST, Running, digest};
use reqwest::Method;

use serde_json::{Value, json};

const BLOB: &[u8] = b"hello blob";
const NAME: &str = "acme/thing";

fn unknown() -> String {
    digest(b"nobody has this")
}

pub(crate) async fn blobs(registry: &Running) {
    let blob = digest(BLOB);
    let at = format!("/v2/{NAME}/blobs/{blob}");
    let uploads = format!("/v2/{NAME}/blobs/uploads/");
    let post = |query: &str| format!("{uploads}{query}");
    check(
        registry,
        vec![
            row("end-1", Method::GET, "/v2/", 200),
            row("end-1 without slash", Method::GET, "/v2", 200),
            row("end-1 is not written to", Method::POST, "/v2/", 405)
                .must("allow", "GET, HEAD")
                .code("UNSUPPORTED"),
            row("end-2 unknown", Method::GET, &at, 404).code("BLOB_UNKNOWN"),
            row("end-2 unknown", Method::HEAD, &at, 404),
            row("end-2 malformed digest", Method::GET, format!("/v2/{NAME}/blobs/sha256:0"), 400)
                .code("DIGEST_INVALID"),
            row("end-4b other digest", Method::POST, post(&format!("?digest={}", unknown())), 400)
                .send(BLOB)
                .code("DIGEST_INVALID"),
            row("end-4b malformed digest", Method::POST, post("?digest=md5:00"), 400)
                .send(BLOB)
                .code("DIGEST_INVALID"),
            row("nothing of a refused upload stays", Method::HEAD, &at, 404),
            row("end-4b", Method::POST, post(&format!("?digest={blob}")), 201)
                .send(BLOB)
                .must("location", &at)
                .must("docker-content-digest", &blob),
            row("end-2", Method::GET, &at, 200)
                .must("docker-content-digest", &blob)
                .must("content-length", "10")
                .must("content-type", "application/octet-stream")
                .answers(BLOB),
            row("end-2", Method::HEAD, &at, 200)
                .must("docker-content-digest", &blob)
                .must("content-length", "10")
                .answers(""),
            row("end-2 range", Method::GET, &at, 206)
                .with("range", "bytes=6-8")
                .must("content-range", "bytes 6-8/10")
                .must("content-length", "3")
                .answers("blo"),
            row("end-2 open range", Method::GET, &at, 206)
                .with("range", "bytes=6-")
                .must("content-range", "bytes 6-9/10")
                .answers("blob"),
            row("end-2 range beyond", Method::GET, &at, 416)
                .with("range", "bytes=10-")
                .must("content-range", "bytes */10"),
            row(
                "blobs are of their repository",
                Method::GET,
                format!("/v2/acme/other/blobs/{blob}"),
                404,
            )
            .code("BLOB_UNKNOWN"),
            row(
                "end-11",
                Method::POST,
                format!("/v2/acme/other/blobs/uploads/?mount={blob}&from={NAME}"),
                201,
            )
            .must("location", format!("/v2/acme/other/blobs/{blob}"))
            .must("docker-content-digest", &blob),
            row("end-11 mounted", Method::GET, format!("/v2/acme/other/blobs/{blob}"), 200)
                .answers(BLOB),
            row(
                "end-11 of what is not there begins an upload",
                Method::POST,
                post(&format!("?mount={}&from={NAME}", unknown())),
                202,
            )
            .must("location", "*"),
            row(
                "end-11 without from begins an upload",
                Method::POST,
                post(&format!("?mount={blob}")),
                202,
            )
            .must("location", "*"),
            row("end-10", Method::DELETE, &at, 202),
            row("end-10 deleted", Method::GET, &at, 404).code("BLOB_UNKNOWN"),
            row("end-10 again", Method::DELETE, &at, 404).code("BLOB_UNKNOWN"),
            row(
                "another repository keeps it",
                Method::GET,
                format!("/v2/acme/other/blobs/{blob}"),
                200,
            ),
        ],
    )
    .await;
}

pub(crate) async fn uploads(registry: &Running) {
    let begin =
        registry.ask(Method::POST, &format!("/v2/{NAME}/blobs/uploads/")).send().await.unwrap();
    assert_eq!(begin.status(), 202);
    let upload = running::header(&begin, "location").to_owned();
    let blob = digest(BLOB);
    let at = format!("/v2/{NAME}/blobs/{blob}");
    let elsewhere = upload.replace(NAME, "acme/elsewhere");
    check(
        registry,
        vec![
            row("end-13 at the start", Method::GET, &upload, 204).must("range", "0-0"),
            row("end-5 not at the start", Method::PATCH, &upload, 416)
                .with("content-range", "3-5")
                .send("lo ")
                .must("range", "0-0")
                .must("location", &upload),
            row("end-5", Method::PATCH, &upload, 202)
                .with("content-range", "0-4")
                .send("hello")
                .must("location", &upload)
                .must("range", "0-4"),
            row("end-13", Method::GET, &upload, 204).must("range", "0-4").must("location", &upload),
            row("end-5 again is out of order", Method::PATCH, &upload, 416)
                .with("content-range", "0-4")
                .send("hello")
                .must("range", "0-4"),
            row("end-5 with another length", Method::PATCH, &upload, 400)
                .with("content-range", "5-9")
                .send(" b")
                .code("SIZE_INVALID"),
            row("end-5 malformed range", Method::PATCH, &upload, 416)
                .with("content-range", "a-b")
                .send(" b")
                .code("BLOB_UPLOAD_INVALID"),
            row("end-5 without a range", Method::PATCH, &upload, 202)
                .send(" b")
                .must("range", "0-6"),
            row("another repository does not see it", Method::GET, &elsewhere, 404)
                .code("BLOB_UPLOAD_UNKNOWN"),
            row("end-6 without digest", Method::PUT, &upload, 400).code("DIGEST_INVALID"),
            row("end-6 other digest", Method::PUT, format!("{upload}?digest={}", unknown()), 400)
                .send("lob")
                .code("DIGEST_INVALID"),
            row("end-6 with the last chunk", Method::PUT, format!("{upload}?digest={blob}"), 201)
                .with("content-range", "7-9")
                .send("lob")
                .must("location", &at)
                .must("docker-content-digest", &blob),
            row("end-6 pulled", Method::GET, &at, 200).answers(BLOB),
            row("a finished upload is gone", Method::GET, &upload, 404).code("BLOB_UPLOAD_UNKNOWN"),
            row("a finished upload takes no more", Method::PATCH, &upload, 404).send("x"),
        ],
    )
    .await;
    let begin =
        registry.ask(Method::POST, &format!("/v2/{NAME}/blobs/uploads/")).send().await.unwrap();
    let upload = running::header(&begin, "location").to_owned();
    check(
        registry,
        vec![
            row("a chunk", Method::PATCH, &upload, 202).send("hello"),
            row("end-14", Method::DELETE, &upload, 204),
            row("end-14 gone", Method::GET, &upload, 404).code("BLOB_UPLOAD_UNKNOWN"),
            row("end-14 again", Method::DELETE, &upload, 404).code("BLOB_UPLOAD_UNKNOWN"),
            row("end-14 only", Method::POST, &upload, 405).code("UNSUPPORTED"),
        ],
    )
    .await;
    let left = registry.store.collect_uploads(i64::MAX).await.unwrap();
    let files = registry.folder.join("uploads").read_dir().map_or(0, |all| {
        all.map(|one| one.unwrap().path().read_dir().unwrap().count()).sum::<usize>()
    });
    assert_eq!((left, files), (0, 0), "nothing of a finished or cancelled upload stays");
}

pub(crate) async fn manifests(registry: &Running) {
    let manifest = registry.artifact(NAME, BLOB).await;
    let bytes = manifest.to_string();
    let own = digest(bytes.as_bytes());
    let tagged = format!("/v2/{NAME}/manifests/latest");
    let by_digest = format!("/v2/{NAME}/manifests/{own}");
    let mut lacking = manifest.clone();
    lacking["layers"][0]["digest"] = json!(unknown());
    let mut longer = manifest.clone();
    longer["layers"][0]["size"] = json!(11);
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [{ "mediaType": OCI_MANIFEST, "digest": own, "size": bytes.len() }],
    });
    let mut lacking_index = index.clone();
    lacking_index["manifests"][0]["digest"] = json!(unknown());
    let put = |says, path: &str, body: &Value, status| {
        row(says, Method::PUT, path, status)
            .with("content-type", body["mediaType"].as_str().unwrap())
            .send(body.to_string())
    };
    check(
        registry,
        vec![
            row("end-3 unknown", Method::GET, &tagged, 404).code("MANIFEST_UNKNOWN"),
            row("end-3 unknown", Method::HEAD, &by_digest, 404),
            row("end-7 without a type", Method::PUT, &tagged, 400)
                .send(bytes.clone())
                .code("MANIFEST_INVALID"),
            row("end-7 not a manifest", Method::PUT, &tagged, 400)
                .with("content-type", OCI_MANIFEST)
                .send("hello")
                .code("MANIFEST_INVALID"),
            put("end-7 a blob is missing", &tagged, &lacking, 404).code("MANIFEST_BLOB_UNKNOWN"),
            put("end-7 a size is wrong", &tagged, &longer, 400).code("MANIFEST_INVALID"),
            put(
                "end-7 under another digest",
                &format!("/v2/{NAME}/manifests/{}", unknown()),
                &manifest,
                400,
            )
            .code("DIGEST_INVALID"),
            put("end-7 malformed tag", &format!("/v2/{NAME}/manifests/-x"), &manifest, 400)
                .code("MANIFEST_INVALID"),
            put("end-7 by tag", &tagged, &manifest, 201)
                .must("location", &by_digest)
                .must("docker-content-digest", &own),
            put("end-7 by digest", &by_digest, &manifest, 201).must("docker-content-digest", &own),
            row("end-3 by tag", Method::GET, &tagged, 200)
                .must("content-type", OCI_MANIFEST)
                .must("docker-content-digest", &own)
                .must("content-length", bytes.len().to_string())
                .answers(bytes.clone()),
            row("end-3 by digest", Method::GET, &by_digest, 200).answers(bytes.clone()),
            row("end-3 head", Method::HEAD, &tagged, 200)
                .must("docker-content-digest", &own)
                .must("content-length", bytes.len().to_string())
                .answers(""),
            put("an index", &format!("/v2/{NAME}/manifests/all"), &index, 201),
            put(
                "an index of what is not there",
                &format!("/v2/{NAME}/manifests/all"),
                &lacking_index,
                404,
            )
            .code("MANIFEST_BLOB_UNKNOWN"),
            row("end-9 by tag", Method::DELETE, &tagged, 202),
            row("end-9 the tag is gone", Method::GET, &tagged, 404).code("MANIFEST_UNKNOWN"),
            row("end-9 the manifest is not", Method::GET, &by_digest, 200),
            row("end-9 again", Method::DELETE, &tagged, 404).code("MANIFEST_UNKNOWN"),
            put("end-7 by tag again", &tagged, &manifest, 201),
            row("end-9 by digest", Method::DELETE, &by_digest, 202),
            row("end-9 the manifest is gone", Method::GET, &by_digest, 404)
                .code("MANIFEST_UNKNOWN"),
            row("end-9 and its tag with it", Method::GET, &tagged, 404).code("MANIFEST_UNKNOWN"),
            row("end-9 again", Method::DELETE, &by_digest, 404).code("MANIFEST_UNKNOWN"),
            row("end-9 only", Method::POST, &tagged, 405).code("UNSUPPORTED"),
        ],
    )
    .await;
}

pub(crate) async fn tags(registry: &Running) {
    let manifest = registry.artifact(NAME, BLOB).await;
    let list = format!("/v2/{NAME}/tags/list");
    let tags = |tags: &[&str]| json!({ "name": NAME, "tags": tags }).to_string();
    check(registry, vec![row("end-8 without tags", Method::GET, &list, 200).answers(tags(&[]))])
        .await;
    for tag in ["b", "a", "d", "C"] {
        assert_eq!(registry.put_manifest(NAME, tag, &manifest).await.status(), 201);
    }
    check(
        registry,
        vec![
            row("end-8a", Method::GET, &list, 200)
                .must("content-type", "application/json")
                .answers(tags(&["C", "a", "b", "d"])),
            row("end-8b", Method::GET, format!("{list}?n=2"), 200)
                .must("link", format!("<{list}?n=2&last=a>; rel=\"next\""))
                .answers(tags(&["C", "a"])),
            row("end-8b next", Method::GET, format!("{list}?n=2&last=a"), 200)
                .answers(tags(&["b", "d"])),
            row("end-8b last alone", Method::GET, format!("{list}?last=b"), 200)
                .answers(tags(&["d"])),
            row("end-8b none", Method::GET, format!("{list}?n=0"), 200).answers(tags(&[])),
            row("end-8b no number", Method::GET, format!("{list}?n=x"), 400),
            row("end-8 unknown", Method::GET, "/v2/acme/nothing/tags/list", 404)
                .code("NAME_UNKNOWN"),
            row("end-8 malformed", Method::GET, "/v2/Acme/nothing/tags/list", 400)
                .code("NAME_INVALID"),
        ],
    )
    .await;
}

pub(crate) async fn referrers(registry: &Running) {
    let subject = registry.artifact(NAME, BLOB).await;
    let subject_digest = digest(subject.to_string().as_bytes());
    let list = format!("/v2/{NAME}/referrers/{subject_digest}");
    let none = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string();
    let descriptor = json!({
        "mediaType": OCI_MANIFEST, "digest": subject_digest, "size": subject.to_string().len(),
    });
    let mut sbom = registry.artifact(NAME, b"an sbom").await;
    sbom["artifactType"] = json!("application/sbom");
    sbom["subject"] = descriptor.clone();
    sbom["annotations"] = json!({ "made": "today" });
    let mut note = registry.artifact(NAME, b"a note").await;
    note["subject"] = descriptor;
    note.as_object_mut().unwrap().remove("artifactType");
    let put = |manifest: &Value, tag: &str| {
        row("end-7 with a subject", Method::PUT, format!("/v2/{NAME}/manifests/{tag}"), 201)
            .with("content-type", OCI_MANIFEST)
            .send(manifest.to_string())
            .must("oci-subject", &subject_digest)
    };
    let described = |manifest: &Value, kind: &str| {
        json!({
            "mediaType": OCI_MANIFEST, "digest": digest(manifest.to_string().as_bytes()),
            "size": manifest.to_string().len(), "artifactType": kind,
        })
    };
    check(
        registry,
        vec![
            row("end-12 of nothing", Method::GET, &list, 200)
                .must("content-type", OCI_INDEX)
                .answers(none.clone()),
            row("end-12 malformed", Method::GET, format!("/v2/{NAME}/referrers/x"), 400)
                .code("DIGEST_INVALID"),
            put(&sbom, "sbom"),
            put(&note, "note"),
        ],
    )
    .await;
    let all = |response: Value| -> Vec<Value> {
        let mut found = response["manifests"].as_array().unwrap().clone();
        found.sort_by_key(|one| one["artifactType"].to_string());
        found
    };
    let response = registry.anybody(Method::GET, &list).send().await.unwrap();
    assert_eq!(running::header(&response, "oci-filters-applied"), "");
    let mut with_annotations = described(&sbom, "application/sbom");
    with_annotations["annotations"] = json!({ "made": "today" });
    // Without an artifact type of its own, the config's media type is the artifact's type.
    let plain = described(&note, "application/vnd.oci.empty.v1+json");
    assert_eq!(all(response.json().await.unwrap()), [with_annotations.clone(), plain]);
    let filtered = format!("{list}?artifactType=application/sbom");
    let response = registry.anybody(Method::GET, &filtered).send().await.unwrap();
    assert_eq!(running::header(&response, "oci-filters-applied"), "artifactType");
    assert_eq!(all(response.json().await.unwrap()), [with_annotations]);
    for manifest in [&sbom, &note] {
        let at = format!("/v2/{NAME}/manifests/{}", digest(manifest.to_string().as_bytes()));
        check(registry, vec![row("deleted", Method::DELETE, at, 202)]).await;
    }
    check(registry, vec![row("end-12 after deletion", Method::GET, &list, 200).answers(none)])
        .await;
}
