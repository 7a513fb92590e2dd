//! The first-party plugin sentinel/nginx.
