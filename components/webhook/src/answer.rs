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

use sentinel_sdk::http::{self, HttpError, Response};
use sentinel_sdk::{DeliveryError, Receipt, Retry};

use crate::config::Target;
use crate::time::retry_after_ms;

/// Longest part of an answer that a message quotes, in bytes.
const QUOTED: usize = 200;
/// Shorter parts of the URL are words, not secrets.
const MIN_SECRET_BYTES: usize = 4;

/// What becomes of a notification after this answer at `now` (unix milliseconds).
pub(crate) fn judge(
    target: &Target,
    answer: Result<Response, HttpError>,
    now: i64,
) -> Result<Receipt, DeliveryError> {
    match answer {
        Ok(response) => judge_response(target, &response, now),
        Err(error) => Err(judge_error(target, &error)),
    }
}

fn judge_response(
    target: &Target,
    response: &Response,
    now: i64,
) -> Result<Receipt, DeliveryError> {
    let said = format!("{} answered {}{}", target.origin, response.status, quote(target, response));
    match response.status {
        200..=299 => Ok(Receipt {
            message: format!("{} answered {}", target.origin, response.status),
            reference: None,
        }),
        408 | 425 | 429 | 500..=599 => {
            let after_ms =
                response.header("retry-after").and_then(|value| retry_after_ms(value, now));
            Err(DeliveryError::Retry(Retry { message: said, after_ms }))
        }
        300..=399 => Err(DeliveryError::Permanent(format!(
            "{} answered {}, a redirect, which is not followed; put the final address in `url` \
             and grant its origin",
            target.origin, response.status
        ))),
        410 => Err(DeliveryError::Permanent(format!(
            "{said}; the receiver is gone for good: remove this notifier or change its `url`"
        ))),
        401 | 403 => Err(DeliveryError::Permanent(format!(
            "{said}; check the headers, the secret and the receiver's permissions"
        ))),
        404 => Err(DeliveryError::Permanent(format!("{said}; check the path of `url`"))),
        _ => Err(DeliveryError::Permanent(said)),
    }
}

fn judge_error(target: &Target, error: &HttpError) -> DeliveryError {
    let said = format!("{}: {}", target.origin, http::describe_error(error));
    match error {
        HttpError::Connect(_) | HttpError::Tls(_) => {
            DeliveryError::Retry(Retry { message: said, after_ms: None })
        }
        HttpError::Timeout => DeliveryError::Unknown(format!("{said} ({} ms)", target.timeout_ms)),
        HttpError::Broken(_) | HttpError::TooLarge(_) => DeliveryError::Unknown(said),
        HttpError::Denied(_) | HttpError::Invalid(_) => DeliveryError::Permanent(said),
    }
}

/// The beginning of an answer, without anything of the URL behind its origin: receivers like to
/// repeat the path, and a path may be a secret.
fn quote(target: &Target, response: &Response) -> String {
    // What a secret might straddle is masked before it is cut.
    let end = response.body.len().min(16 * QUOTED);
    let mut text = String::from_utf8_lossy(&response.body[..end]).into_owned();
    let behind = &target.url[target.origin.len()..];
    let mut parts: Vec<&str> = behind
        .split(['/', '?', '#', '&', '=', ';'])
        .filter(|part| part.len() >= MIN_SECRET_BYTES)
        .collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    for part in parts {
        text = text.replace(part, "***");
    }
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        return String::new();
    }
    let end = text.floor_char_boundary(QUOTED);
    format!(": {}{}", &text[..end], if end < text.len() { "..." } else { "" })
}
