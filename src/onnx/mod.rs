//! The graph builder: `Scope` carries weights and names, `Value` carries shapes, `Graph` becomes a protobuf.
