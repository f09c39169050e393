//! The vhost-user net backend: protocol adapter, virtqueues, port guard, worker loop.
