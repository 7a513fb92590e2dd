//! What a receiver's answer means for the delivery.
//!
//! | answer | delivery |
//! |---|---|
//! | 2xx | done |
//! | 408, 425, 429 and 5xx | retry, after `Retry-After` where there is one |
//! | 3xx | permanent: the config names another place than the receiver's |
//! | 410 | permanent: the receiver is gone |
//! | other 4xx, and statuses that HTTP has not | permanent |
//! | no connection, or TLS failed | retry: surely nothing was sent |
//! | no answer in time, a broken connection, an answer too large | unknown: it may have been taken |
//! | denied or malformed | permanent: the grants or the config have to change |

use super::time::retry_after_ms;
use super::{Endpoint, cut_bytes};
use crate::http::{self, HttpError, Request, Response};
use crate::{DeliveryError, Receipt, Retry, clock};

/// Longest part of an answer that a message quotes, in bytes.
const QUOTED: usize = 200;

/// Who is told, as its answers are judged: by the table of the module, with messages that name
/// it and hold nothing that is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    name: String,
    hidden: Vec<String>,
    timeout_ms: u32,
}

impl Receiver {
    /// A receiver at a URL, named by its origin. What stands behind the origin is hidden:
    /// receivers like to repeat the path, and a path may be a secret.
    pub fn at(endpoint: &Endpoint, timeout_ms: u32) -> Self {
        Self { name: endpoint.origin().to_owned(), hidden: endpoint.hidden(), timeout_ms }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its answers are waited for, in milliseconds.
    pub fn timeout_ms(&self) -> u32 {
        self.timeout_ms
    }

    /// Sends a request with the receiver's timeout, and judges what comes of it.
    ///
    /// # Errors
    ///
    /// As the table of the module says.
    pub fn send(&self, request: Request) -> Result<Response, DeliveryError> {
        let answer = http::send(&request.timeout_ms(self.timeout_ms));
        self.judge(answer, clock::now())
    }

    /// What becomes of a notification after this answer at `now` (unix milliseconds).
    ///
    /// # Errors
    ///
    /// As the table of the module says.
    pub fn judge(
        &self,
        answer: Result<Response, HttpError>,
        now: i64,
    ) -> Result<Response, DeliveryError> {
        match answer {
            Ok(response) if response.is_success() => Ok(response),
            Ok(response) => Err(self.refused(&response, now)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// That it was delivered.
    pub fn receipt(&self, response: &Response, reference: Option<String>) -> Receipt {
        Receipt { message: format!("{} answered {}", self.name, response.status), reference }
    }

    /// What it answered: its name, the status, the beginning of the body.
    pub fn said(&self, response: &Response) -> String {
        format!("{} answered {}{}", self.name, response.status, self.quote(&response.body))
    }

    /// Surely not taken, for the reason in its answer; to be tried again after its own wish.
    pub fn again(&self, response: &Response, after_ms: Option<u64>) -> DeliveryError {
        DeliveryError::Retry(Retry { message: self.said(response), after_ms })
    }

    /// Never taken, for the reason in its answer and with a word on what to do.
    pub fn never(&self, response: &Response, what_to_do: &str) -> DeliveryError {
        let separator = if what_to_do.is_empty() { "" } else { "; " };
        DeliveryError::Permanent(format!("{}{separator}{what_to_do}", self.said(response)))
    }

    fn refused(&self, response: &Response, now: i64) -> DeliveryError {
        match response.status {
            408 | 425 | 429 | 500..=599 => {
                let wish = response.header("retry-after");
                self.again(response, wish.and_then(|value| retry_after_ms(value, now)))
            }
            300..=399 => DeliveryError::Permanent(format!(
                "{} answered {}, a redirect, which is not followed; put the final address in \
                 the config and grant its origin",
                self.name, response.status
            )),
            410 => self.never(
                response,
                "the receiver is gone for good: remove this notifier or change its URL",
            ),
            401 | 403 => {
                self.never(response, "check the headers, the secret and the receiver's permissions")
            }
            404 => self.never(response, "check the path of the URL"),
            _ => self.never(response, ""),
        }
    }

    fn failed(&self, error: &HttpError) -> DeliveryError {
        let said = format!("{}: {}", self.name, http::describe_error(error));
        match error {
            HttpError::Connect(_) | HttpError::Tls(_) => {
                DeliveryError::Retry(Retry { message: said, after_ms: None })
            }
            HttpError::Timeout => {
                DeliveryError::Unknown(format!("{said} ({} ms)", self.timeout_ms))
            }
            HttpError::Broken(_) | HttpError::TooLarge(_) => DeliveryError::Unknown(said),
            HttpError::Denied(_) | HttpError::Invalid(_) => DeliveryError::Permanent(said),
        }
    }

    /// The beginning of an answer, without anything that is hidden.
    fn quote(&self, body: &[u8]) -> String {
        // What a secret might straddle is masked before it is cut.
        let end = body.len().min(16 * QUOTED);
        let mut text = String::from_utf8_lossy(&body[..end]).into_owned();
        for part in &self.hidden {
            text = text.replace(part, "***");
        }
        let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        if text.is_empty() { text } else { format!(": {}", cut_bytes(&text, QUOTED)) }
    }
}

/// A wish to wait that a body names in seconds, perhaps with a fraction, in milliseconds;
/// `None` where it is none.
pub fn wish_in_seconds(seconds: f64) -> Option<u64> {
    (seconds.is_finite() && seconds >= 0.0).then(|| (seconds * 1_000.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_in_seconds_are_rounded_up_and_nonsense_is_none() {
        for (seconds, wish) in [
            (0.0, Some(0)),
            (0.3005, Some(301)),
            (65.0, Some(65_000)),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(wish_in_seconds(seconds), wish, "{seconds}");
        }
    }
}
