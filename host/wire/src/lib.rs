//! The generated gRPC types and the signed envelope: what crosses the network.
