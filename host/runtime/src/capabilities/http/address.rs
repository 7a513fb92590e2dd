//! Which addresses a name may lead to.
//!
//! An operator who grants `https://example.com` means a server out there, not whatever the
//! owner of that name points it at. So a *name* leads to ordinary addresses only (public or
//! private); addresses of this machine, of the link and of cloud metadata services are
//! reached only if the granted origin names them: as the address itself, or `localhost` for
//! loopback. The check stands in the resolver of the client, so that the addresses which were
//! checked are the addresses which are connected to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

/// The addresses of a name, to come.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Who resolves names: the system, or a test.
pub trait Resolver: Send + Sync {
    /// The addresses of a host name.
    fn resolve(&self, host: &str) -> Resolving;
}

/// Names are resolved as the system does it for every program.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A name that leads only to addresses which must be named themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name leads to an address of this machine, its link or a metadata service; such an address must itself stand in `http.origins`"
)]
pub struct AddressDenied;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Out there, public or private.
    Ordinary,
    /// This machine.
    Loopback,
    /// Link-local, metadata, unspecified, multicast, broadcast.
    Special,
}

/// Metadata services outside of the link-local ranges: Alibaba, Oracle, Azure.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];
/// Metadata services: Amazon, Google.
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

fn reach_v4(address: Ipv4Addr) -> Reach {
    if address.is_loopback() {
        Reach::Loopback
    } else if address.octets()[0] == 0
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || METADATA_V4.contains(&address)
    {
        Reach::Special
    } else {
        Reach::Ordinary
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if address.is_loopback() {
        return Reach::Loopback;
    }
    if let Some(inner) = embedded_v4(address) {
        // However it is wrapped, it ends up at the same place.
        return match reach_v4(inner) {
            Reach::Ordinary => Reach::Ordinary,
            Reach::Loopback | Reach::Special => Reach::Special,
        };
    }
    let first = address.segments()[0];
    let link_or_site = matches!(first & 0xffc0, 0xfe80 | 0xfec0);
    if address.is_unspecified()
        || address.is_multicast()
        || link_or_site
        || METADATA_V6.contains(&address)
    {
        Reach::Special
    } else {
        Reach::Ordinary
    }
}

/// The IPv4 address within a mapped, compatible, NAT64 or 6to4 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(v4(g, h)),
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(v4(g, h)),
        [0x2002, ..] => Some(v4(b, c)),
        _ => None,
    }
}

/// Whether a host name may lead to an address.
pub(in crate::capabilities) fn may_reach(host: &str, address: IpAddr) -> bool {
    let reach = match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    };
    match reach {
        Reach::Ordinary => true,
        Reach::Loopback => host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("localhost"),
        Reach::Special => false,
    }
}

/// Resolves, and drops the addresses that the name may not lead to.
pub(super) struct Guarded(pub(super) Arc<dyn Resolver>);

impl reqwest::dns::Resolve for Guarded {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolving = self.0.resolve(name.as_str());
        Box::pin(async move {
            let mut addresses = resolving.await?;
            if addresses.is_empty() {
                return Err(
                    io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()
                );
            }
            addresses.retain(|address| may_reach(name.as_str(), *address));
            if addresses.is_empty() {
                return Err(AddressDenied.into());
            }
            // Port 0 stands for the URL's own.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_ordinary_addresses_only() {
        for (address, ordinary) in [
            ("93.184.216.34", true),
            ("10.1.2.3", true),
            ("192.168.0.1", true),
            ("2606:2800:220:1::1", true),
            ("fd12:3456::1", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("169.254.0.1", false),
            ("100.100.100.200", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("fd00:ec2::254", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:93.184.216.34", true),
            ("::127.0.0.1", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::5db8:d822", true),
            ("2002:7f00:1::1", false),
        ] {
            assert_eq!(may_reach("example.com", address.parse().unwrap()), ordinary, "{address}");
        }
    }

    #[test]
    fn localhost_leads_to_loopback_and_to_nothing_else_that_is_special() {
        for (host, address, allowed) in [
            ("localhost", "127.0.0.1", true),
            ("localhost", "::1", true),
            ("LocalHost.", "::1", true),
            ("localhost", "169.254.169.254", false),
            ("localhost", "0.0.0.0", false),
            ("localhost", "::ffff:127.0.0.1", false),
            ("x.localhost", "127.0.0.1", false),
            ("localhost.example.com", "127.0.0.1", false),
        ] {
            assert_eq!(may_reach(host, address.parse().unwrap()), allowed, "{host} {address}");
        }
    }
}
