//! Components for tests and benches that no compiler has to make: valid, of the contract's
//! worlds, and with nothing behind them. What is wrong with a contract or an encoder panics.

mod hollow;
mod world;

pub use hollow::hollow;
pub use world::{World, whole_world, world};
