//! The configuration file: schema, validation, errors that name file, line and key.
#![forbid(unsafe_code)]
