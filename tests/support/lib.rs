//! Synthetic clients, scriptable origins and test authorities.
