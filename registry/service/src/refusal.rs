//! Why a request was refused, as the distribution specification words it.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// Seconds that a client is told to wait where it asked too often.
const RETRY_AFTER_SECONDS: u32 = 5;

/// The codes of the distribution specification 1.1, and ours for what it has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The repository has no such blob.
    BlobUnknown,
    /// The blob upload cannot go on like this.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// The digest is none, or not that of the bytes.
    DigestInvalid,
    /// A manifest names a blob or manifest that the repository does not have.
    ManifestBlobUnknown,
    /// The manifest is none, or describes a plugin that every host would refuse.
    ManifestInvalid,
    /// The repository has no such manifest.
    ManifestUnknown,
    /// The repository's name is none.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// A length is wrong or too large.
    SizeInvalid,
    /// Who asks is not known.
    Unauthorized,
    /// Who asks may not.
    Denied,
    /// The operation is none.
    Unsupported,
    /// Too much is asked at once.
    TooManyRequests,
    /// A release, index or piece of metadata cannot be accepted.
    ReleaseInvalid,
    /// Somebody else was faster; ask again with what is there now.
    Conflict,
    /// The service or its store is at fault.
    Internal,
}

impl Code {
    /// The code's word in an answer's body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::ReleaseInvalid => "RELEASE_INVALID",
            Self::Conflict => "CONFLICT",
            Self::Internal => "INTERNAL",
        }
    }

    /// The status that goes with the code where nothing more fitting is chosen.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::NameInvalid => StatusCode::BAD_REQUEST,
            Self::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::ReleaseInvalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A refused request: what is answered.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The word.
    pub code: Code,
    /// What failed, with which value, and what to do.
    pub message: String,
    /// More for programs.
    detail: Option<Box<Value>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with the code's own status.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            message: message.into(),
            detail: None,
            headers: Vec::new(),
        }
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With more for programs.
    #[must_use]
    pub fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    /// With a header; one whose value cannot be sent is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.push((name, value));
        }
        self
    }

    /// The method does not go with the address.
    #[must_use]
    pub fn method(allowed: &str) -> Self {
        Self::new(Code::Unsupported, format!("this address answers {allowed} only"))
            .header(header::ALLOW, allowed)
    }

    /// Too much at once.
    #[must_use]
    pub fn too_many(what: &str) -> Self {
        Self::new(Code::TooManyRequests, format!("{what}; try again in a few seconds"))
            .header(header::RETRY_AFTER, &RETRY_AFTER_SECONDS.to_string())
    }

    /// The service is at fault: what happened is logged, and not told to strangers.
    #[must_use]
    pub fn internal(what: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "{what}");
        Self::new(Code::Internal, format!("{what}; the registry's log says why"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message });
        if let Some(detail) = self.detail {
            error["detail"] = *detail;
        }
        let mut response = (self.status, axum::Json(json!({ "errors": [error] }))).into_response();
        // For those who count.
        response.extensions_mut().insert(self.code);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
