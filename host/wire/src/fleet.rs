//! The signature of a question for the desired set: HMAC-SHA256 over `sentinel-fleet-v1` and
//! the message's encoding without its `mac`, as with heartbeats.

use crate::key::AgentKey;
use crate::v1::FleetRequest;
use prost::Message;

const DOMAIN: &[u8] = b"sentinel-fleet-v1";

fn canonical(request: &FleetRequest) -> Vec<u8> {
    let mut bare = request.clone();
    bare.mac.clear();
    bare.encode_to_vec()
}

/// Signs a question in place, naming the key.
pub fn seal(request: &mut FleetRequest, key: &AgentKey) {
    request.key_id = key.id();
    request.mac = key.sign(&[DOMAIN, &canonical(request)]);
}

/// Whether it was signed with the key. Its time and nonce are the caller's to check.
#[must_use]
pub fn fits(request: &FleetRequest, key: &AgentKey) -> bool {
    request.key_id == key.id() && key.fits(&[DOMAIN, &canonical(request)], &request.mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_signed_whole_and_passes_for_no_heartbeat() {
        let key = AgentKey::random(1);
        let mut request = FleetRequest { agent_id: "a".into(), ..Default::default() };
        seal(&mut request, &key);
        assert!(fits(&request, &key));
        request.have = 1;
        assert!(!fits(&request, &key));
        let mut beat = crate::v1::HeartbeatRequest { agent_id: "a".into(), ..Default::default() };
        crate::heartbeat::seal(&mut beat, &key);
        request.have = 0;
        request.mac = beat.mac;
        assert!(!fits(&request, &key));
    }
}
