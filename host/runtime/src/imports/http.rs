//! `http`: sent among the host's I/O.

use std::sync::Arc;
use std::time::Duration;

use sentinel_trust::HttpMethod;

use super::small::not_granted;
use crate::bindings::sentinel::plugin::http as contract;
use crate::capabilities::http::{HttpError, HttpGate, Request, Response};
use crate::host::Host;

/// Longest time of `send` and `send-all`: more than any grant allows for one exchange.
const LIMIT: Duration = Duration::from_secs(130);

impl Host {
    fn http(&self) -> wasmtime::Result<Arc<HttpGate>> {
        Ok(Arc::clone(self.gates.http.as_ref().ok_or_else(|| not_granted("http"))?))
    }
}

impl contract::Host for Host {
    async fn send(
        &mut self,
        request: contract::Request,
    ) -> wasmtime::Result<Result<contract::Response, contract::HttpError>> {
        let gate = self.http()?;
        let work = async move { gate.send(request.into()).await };
        let answer = self.outside("waiting in http.send", LIMIT, work).await?;
        Ok(converted(answer.unwrap_or(Err(HttpError::Timeout))))
    }

    async fn send_all(
        &mut self,
        requests: Vec<contract::Request>,
    ) -> wasmtime::Result<Vec<Result<contract::Response, contract::HttpError>>> {
        let gate = self.http()?;
        let count = requests.len();
        let requests = requests.into_iter().map(Request::from).collect();
        let work = async move { gate.send_all(requests).await };
        let answers = self.outside("waiting in http.send-all", LIMIT, work).await?;
        let answers = answers.unwrap_or_else(|| vec![Err(HttpError::Timeout); count]);
        Ok(answers.into_iter().map(converted).collect())
    }
}

fn converted(
    answer: Result<Response, HttpError>,
) -> Result<contract::Response, contract::HttpError> {
    match answer {
        Ok(Response { status, headers, body }) => Ok(contract::Response { status, headers, body }),
        Err(error) => Err(error.into()),
    }
}

impl From<contract::Request> for Request {
    fn from(request: contract::Request) -> Self {
        let method = match request.method {
            contract::Method::Get => HttpMethod::Get,
            contract::Method::Head => HttpMethod::Head,
            contract::Method::Post => HttpMethod::Post,
            contract::Method::Put => HttpMethod::Put,
            contract::Method::Patch => HttpMethod::Patch,
            contract::Method::Delete => HttpMethod::Delete,
        };
        Self {
            method,
            url: request.url,
            headers: request.headers,
            body: request.body,
            timeout_ms: request.timeout_ms,
        }
    }
}

impl From<HttpError> for contract::HttpError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Denied(why) => Self::Denied(why),
            HttpError::Invalid(why) => Self::Invalid(why),
            HttpError::Connect(why) => Self::Connect(why),
            HttpError::Tls(why) => Self::Tls(why),
            HttpError::Timeout => Self::Timeout,
            HttpError::Broken(why) => Self::Broken(why),
            HttpError::TooLarge(bytes) => Self::TooLarge(bytes),
        }
    }
}
