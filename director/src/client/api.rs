//! Requests to the director. What changes something is sent once and never again by itself: a director that got it
//! twice would do it twice. Questions are repeated while the director cannot be reached.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::header::{CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use super::arguments::Connection;
use super::login::{Credentials, Login};

const DEFAULT_PORT: u16 = 25555;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A director that restarts is back within this many seconds.
const QUESTION_TRIES: u32 = 10;
const QUESTION_PAUSE: Duration = Duration::from_secs(1);

/// A director and who we are to it.
pub(super) struct Director {
    http: reqwest::Client,
    base: Url,
    credentials: Option<Credentials>,
    /// How they are shown; known after the first question.
    login: Mutex<Option<Login>>,
    /// It answered before, so it comes back.
    was_reached: AtomicBool,
}

/// The body of a request.
pub(super) enum Body<'a> {
    Empty,
    /// An empty text is one too: the director wants the content type.
    Yaml(&'a str),
    Json(&'a Value),
}

impl Director {
    pub(super) fn new(connection: &Connection) -> anyhow::Result<Self> {
        let environment = connection.environment.as_deref();
        let base = base_url(environment.context("name the director with -e URL or BOSH_ENVIRONMENT")?)?;
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT);
        if let Some(ca) = &connection.ca_cert {
            http = http.tls_certs_only(authority(ca)?);
        }
        Ok(Self {
            http: http.build().context("prepare to speak to the director")?,
            base,
            credentials: credentials(connection)?,
            login: Mutex::new(None),
            was_reached: AtomicBool::new(false),
        })
    }

    /// `environment 'URL' as client 'NAME'`, as the `bosh` CLI begins.
    pub(super) fn describe(&self) -> String {
        let url = self.base.as_str().trim_end_matches('/');
        match &self.credentials {
            Some(Credentials { client, .. }) => format!("environment '{url}' as client '{client}'"),
            None => format!("environment '{url}' as anonymous user"),
        }
    }

    /// Ask for JSON.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Value> {
        let response = self.question(path, query, None).await?;
        json(checked(response).await?).await
    }

    /// Ask for a task's output from a byte on; `None` where there is nothing new.
    pub(super) async fn output(&self, task: u64, kind: &str, from: usize) -> anyhow::Result<Option<String>> {
        let path = ["tasks", &task.to_string(), "output"];
        let response = self.question(&path, &[("type", kind)], Some(from)).await?;
        match response.status() {
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NO_CONTENT => Ok(None),
            // A director that knows no ranges sends everything again.
            StatusCode::OK => Ok(response.text().await?.get(from..).filter(|text| !text.is_empty()).map(str::to_owned)),
            _ => Ok(Some(checked(response).await?.text().await.context("read a task's output")?)),
        }
    }

    /// Change something that is done at once.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Body<'_>,
    ) -> anyhow::Result<Value> {
        let response = self.send_once(method, path, query, body).await?;
        json(checked(response).await?).await
    }

    /// Ask for something that becomes a task, and return the task's number.
    pub(super) async fn submit(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Body<'_>,
    ) -> anyhow::Result<u64> {
        let response = self.send_once(method, path, query, body).await?;
        if !response.status().is_redirection() {
            let status = checked(response).await?.status();
            bail!("the director answered {status} instead of a task");
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let number = location.rsplit('/').next().and_then(|number| number.parse().ok());
        number.with_context(|| format!("the director sent no task but '{location}'"))
    }

    async fn send_once(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Body<'_>,
    ) -> anyhow::Result<Response> {
        let send = async || {
            let request = self.request(method.clone(), path, query).await?;
            let request = match &body {
                Body::Empty => request,
                Body::Yaml(text) => request.header(CONTENT_TYPE, "text/yaml").body((*text).to_owned()),
                Body::Json(value) => request.json(value),
            };
            let answer = request.send().await.inspect(|_| self.was_reached.store(true, Ordering::Relaxed));
            answer.map_err(|error| self.doubt(error))
        };
        let answer = send().await?;
        // Nothing was done yet.
        let may_ask_again = answer.status() == StatusCode::UNAUTHORIZED && self.renew_token().await?;
        if may_ask_again { send().await } else { Ok(answer) }
    }

    fn doubt(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return self.unreachable(error);
        }
        let doubt = "the director may have taken the request, but its answer was lost; see `tasks --recent`";
        anyhow!(error.without_url()).context(doubt)
    }

    async fn question(&self, path: &[&str], query: &[(&str, &str)], from: Option<usize>) -> anyhow::Result<Response> {
        let (mut tries, mut has_renewed) = (1, false);
        loop {
            let mut request = self.request(Method::GET, path, query).await?;
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let answer = request.send().await;
            if !has_renewed && answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED) {
                has_renewed = true;
                if self.renew_token().await? {
                    continue;
                }
            }
            let may_pass = tries < QUESTION_TRIES && self.was_reached.load(Ordering::Relaxed);
            match answer {
                Ok(response) if !may_pass || !is_passing(response.status()) => {
                    self.was_reached.store(true, Ordering::Relaxed);
                    return Ok(response);
                }
                // At the first question the address is wrong, or nothing runs there.
                Err(error) if !may_pass => return Err(self.unreachable(error)),
                Ok(_) | Err(_) => tries += 1,
            }
            tokio::time::sleep(QUESTION_PAUSE).await;
        }
    }

    async fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<RequestBuilder> {
        let request = self.anonymous_request(method, path, query)?;
        match &self.credentials {
            Some(credentials) => Ok(self.login(credentials).await?.sign(request, credentials)),
            None => Ok(request),
        }
    }

    fn anonymous_request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> anyhow::Result<RequestBuilder> {
        let mut url = self.base.clone();
        let mut segments = url.path_segments_mut().map_err(|()| anyhow!("{} has no paths", self.base))?;
        segments.pop_if_empty().extend(path);
        drop(segments);
        let request = self.http.request(method, url);
        Ok(if query.is_empty() { request } else { request.query(query) })
    }

    async fn login(&self, credentials: &Credentials) -> anyhow::Result<Login> {
        let known = self.known_login().clone();
        if let Some(login) = known {
            return Ok(login);
        }
        let answer = self.anonymous_request(Method::GET, &["info"], &[])?.send().await;
        let info = json(checked(answer.map_err(|error| self.unreachable(error))?).await?).await?;
        let login = Login::new(&self.http, &info, credentials).await?;
        *self.known_login() = Some(login.clone());
        Ok(login)
    }

    /// Whether there is a new token now: the old one may have expired.
    async fn renew_token(&self) -> anyhow::Result<bool> {
        let known = self.known_login().clone();
        let (Some(login), Some(credentials)) = (known, &self.credentials) else { return Ok(false) };
        let renewed = login.renewed(&self.http, credentials).await?;
        let is_new = renewed.is_some();
        if is_new {
            *self.known_login() = renewed;
        }
        Ok(is_new)
    }

    fn known_login(&self) -> MutexGuard<'_, Option<Login>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        anyhow!(error.without_url()).context(format!("cannot reach the director at {}", self.base))
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// As the `bosh` CLI: a host alone means HTTPS on port 25555.
fn base_url(environment: &str) -> anyhow::Result<Url> {
    let has_scheme = environment.contains("://");
    let text = if has_scheme { environment.to_owned() } else { format!("https://{environment}") };
    let mut url = Url::parse(&text).with_context(|| format!("'{environment}' is not the URL of a director"))?;
    if url.scheme() != "https" {
        bail!("'{environment}' is not the URL of a director: it begins with https://");
    }
    if url.port().is_none() {
        url.set_port(Some(DEFAULT_PORT)).map_err(|()| anyhow!("'{environment}' is not the URL of a director"))?;
    }
    Ok(url)
}

fn authority(path_or_pem: &str) -> anyhow::Result<Vec<Certificate>> {
    let pem = if path_or_pem.contains("-----BEGIN") {
        path_or_pem.to_owned()
    } else {
        std::fs::read_to_string(path_or_pem).with_context(|| format!("read the director's authority {path_or_pem}"))?
    };
    Certificate::from_pem_bundle(pem.as_bytes()).context("use the director's authority")
}

fn credentials(connection: &Connection) -> anyhow::Result<Option<Credentials>> {
    let Some(client) = connection.client.clone() else { return Ok(None) };
    let secret = match &connection.client_secret_file {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            Some(text.trim_end_matches('\n').to_owned())
        }
        None => std::env::var("BOSH_CLIENT_SECRET").ok(),
    };
    Ok(Some(Credentials { client, secret }))
}

/// Turn what the director refuses into its own words.
async fn checked(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let problem: Option<Value> = serde_json::from_str(&text).ok();
    match problem.as_ref().and_then(|problem| Some((problem.get("code")?, problem.get("description")?.as_str()?))) {
        Some((code, description)) => bail!("{description} (code {code})"),
        None if status == StatusCode::UNAUTHORIZED => {
            bail!("the director does not know this user: set BOSH_CLIENT and BOSH_CLIENT_SECRET")
        }
        None => bail!("the director answered {status}: {}", text.trim()),
    }
}

/// The body, whatever content type the director gives it; nothing is null.
async fn json(response: Response) -> anyhow::Result<Value> {
    let text = response.text().await.context("read the director's answer")?;
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).context("understand the director's answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_a_url_or_a_host() {
        let cases = [
            ("https://127.0.0.1:25555", "https://127.0.0.1:25555/"),
            ("127.0.0.1", "https://127.0.0.1:25555/"),
            ("director:1234", "https://director:1234/"),
            ("https://director/", "https://director:25555/"),
        ];
        for (environment, expected) in cases {
            assert_eq!(base_url(environment).unwrap().as_str(), expected);
        }
        for wrong in ["http://127.0.0.1", "https://", "a b"] {
            assert!(base_url(wrong).is_err(), "{wrong}");
        }
    }
}
