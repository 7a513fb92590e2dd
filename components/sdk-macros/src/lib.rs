//! The export macros of the Sentinel SDK.
