//! Packets of the client/server protocol.
