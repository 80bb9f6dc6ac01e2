//! Where a request comes from, as far as limits go. What is limited lies with those who limit.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use http::request::Parts;

/// Who has sent a request, for slowing down whoever tries secrets or makes up tokens: put it into the request's extensions
/// where the connection's other end is a proxy of yours. Without it, axum's `ConnectInfo<SocketAddr>` is looked at. Where
/// there is neither, an app id for which somebody tries secrets is slowed down for all who come with it for the first time,
/// and made-up tokens slow down all tokens that were not seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Returns the address of a request's sender, if anybody has put it on the request.
pub(crate) fn peer(parts: &Parts) -> Option<IpAddr> {
    let given = parts.extensions.get::<PeerAddress>().map(|peer| peer.0);
    given.or_else(|| parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|connection| connection.0.ip()))
}

/// The sender of a token. All whose address is not known count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    Unknown,
    /// An IPv6 address counts as its network of 64 bits, which one customer has as a rule.
    Peer(IpAddr),
    /// The authorization server, from which the exchange has the token.
    Exchange,
}

impl Sender {
    pub(crate) fn of(parts: &Parts) -> Self {
        match peer(parts).map(|peer| peer.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V4(address)) => Self::Peer(address.into()),
            Some(IpAddr::V6(address)) => {
                Self::Peer(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
        }
    }
}
