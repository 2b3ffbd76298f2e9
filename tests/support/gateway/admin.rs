//! The admin endpoint: plain HTTP, and metrics looked up by name.

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Gateway;
use crate::client::error::ClientError;
use crate::client::message::{Reply, Request};
use crate::client::tunnel::WAIT_MAX;
use crate::client::wire::Wire;

impl Gateway {
    /// GET on the admin endpoint.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn admin_get(&self, path: &str) -> Result<Reply, ClientError> {
        self.admin(Request::get(path)).await
    }

    /// Any request on the admin endpoint.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn admin(&self, request: Request) -> Result<Reply, ClientError> {
        let address = ("127.0.0.1", self.ports().admin);
        let host = format!("127.0.0.1:{}", address.1);
        let request = request.field("Connection", "close");
        let whole = async {
            let tcp = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
            let mut wire = Wire::new(Box::new(tcp));
            wire.write_head(&request, &request.path, &host).await?;
            wire.write_body(&request).await?;
            let (reply, framing) = wire.read_head(&request.method).await?;
            wire.finish(reply, framing).await
        };
        timeout(WAIT_MAX, whole).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// The sum of a metric over the series whose labels contain all of `labels`
    /// (`[r#"reason="x""#]`); `None` where there is no such series.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.admin_get("/metrics").await.expect("/metrics").text();
        let values: Vec<f64> = text
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                if !rest.starts_with(['{', ' ']) || !labels.iter().all(|one| rest.contains(one)) {
                    return None;
                }
                rest.rsplit(' ').next()?.parse().ok()
            })
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}
