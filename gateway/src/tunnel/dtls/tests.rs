//! Both engines against the same libraries' clients, in memory and in virtual time.
