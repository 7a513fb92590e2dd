//! The signature of a heartbeat: HMAC-SHA256 over `sentinel-heartbeat-v1` and the message's
//! encoding without its `mac`. Prost encodes fields in the order of their numbers and the
//! message has no map, so both sides get the same bytes.

use crate::key::AgentKey;
use crate::v1::HeartbeatRequest;
use prost::Message;

const DOMAIN: &[u8] = b"sentinel-heartbeat-v1";

fn canonical(request: &HeartbeatRequest) -> Vec<u8> {
    let mut bare = request.clone();
    bare.mac.clear();
    bare.encode_to_vec()
}

/// Signs a heartbeat in place, naming the key.
pub fn seal(request: &mut HeartbeatRequest, key: &AgentKey) {
    request.key_id = key.id();
    request.mac = key.sign(&[DOMAIN, &canonical(request)]);
}

/// Whether a heartbeat was signed with the key. Its time and nonce are the caller's to check.
#[must_use]
pub fn fits(request: &HeartbeatRequest, key: &AgentKey) -> bool {
    request.key_id == key.id() && key.fits(&[DOMAIN, &canonical(request)], &request.mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_signed_whole() {
        let key = AgentKey::random(1);
        let mut request = HeartbeatRequest { agent_id: "a".into(), ..Default::default() };
        seal(&mut request, &key);
        assert!(fits(&request, &key));
        request.warnings.push("x".into());
        assert!(!fits(&request, &key));
    }
}
