//! The network of inner connections, where the kernel is to carry them.

use std::sync::Arc;

use crate::config::{Inner, InnerTcp};
use crate::serve::ServeError;
use crate::stream::packet::AddressPool;
use crate::stream::packet::kernel::{Kernel, Network};
use crate::telemetry::Metrics;

/// Makes it as the configuration wants.
pub(in crate::serve) fn inner_network(inner: Inner) -> Result<Option<Network>, ServeError> {
    let made = match inner.tcp {
        InnerTcp::User => return Ok(None),
        InnerTcp::Kernel => Network::make(inner.ipv4, inner.ipv6).map_err(ServeError::InnerTcp)?,
        InnerTcp::Auto => match Network::make(inner.ipv4, inner.ipv6) {
            Ok(network) => network,
            Err(why) => {
                tracing::info!("inner connections end in user space: {why}");
                return Ok(None);
            }
        },
    };
    tracing::info!(congestion = %made.congestion, "inner connections end in the kernel");
    if !made.unset.is_empty() {
        let settings = made.unset.join(", ");
        tracing::warn!(%settings, "not writable in the inner network: the machine's own hold there");
    }
    Ok(Some(made))
}

/// Takes it into service.
pub(in crate::serve) fn start_kernel(
    network: Option<Network>,
    pool: &AddressPool,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Kernel>>, ServeError> {
    let Some(network) = network else { return Ok(None) };
    let started = Kernel::new(network, pool, Arc::clone(metrics));
    let (kernel, listeners) = started.map_err(|error| ServeError::InnerTcp(error.into()))?;
    kernel.start_reading().map_err(ServeError::Runtime)?;
    tokio::spawn(Arc::clone(&kernel).sweep());
    for listener in listeners {
        tokio::spawn(Arc::clone(&kernel).accept(listener));
    }
    Ok(Some(kernel))
}
