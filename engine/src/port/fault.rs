//! Fault injection as a wrapper around any port.
