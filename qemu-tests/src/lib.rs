//! Real VMMs, real guests, hostile front-ends; the demo and the verify command.
