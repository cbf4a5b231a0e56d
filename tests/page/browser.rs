//! A headless browser, driven through ChromeDriver by the JSON of W3C WebDriver.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::base64;

const DRIVER: &str = "chromedriver";
/// How long the driver may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a script in the page may take.
const SCRIPT_WITHIN: Duration = Duration::from_secs(60);
/// How long any answer may take: longer than a script, and than a browser that starts on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Quiet (nothing but the page's own requests), without a graphics card, and free to play without a click. The sandbox
/// needs rights that containers don't give, and the page is our own.
const BROWSER_ARGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
];

/// Names an element in WebDriver's JSON (W3C WebDriver, "Elements").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page. Dropping it ends it.
pub(crate) struct Browser {
    client: Client,
    /// The URL of the session.
    session: String,
    // In this order: the directory can only go when nobody writes into it any more.
    _driver: Driver,
    _directory: TempDir,
}

impl Browser {
    /// Starts driver and browser, with a profile of their own.
    ///
    /// # Errors
    /// If one of them isn't installed or doesn't start.
    pub(crate) async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("starling-browser-").tempdir()?;
        let driver = Driver::start(directory.path())?;
        let url = format!("http://127.0.0.1:{}", driver.port().await?);
        let client = Client::builder().no_proxy().http1_only().timeout(ANSWER_WITHIN).build()?;
        let profile = format!("--user-data-dir={}", directory.path().join("profile").display());
        let args: Vec<&str> = BROWSER_ARGS.into_iter().chain(["--window-size=1280,1400", &profile]).collect();
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": SCRIPT_WITHIN.as_millis() as u64 },
        } } });
        let session = post(&client, &format!("{url}/session"), &capabilities).await.context("starting a browser")?;
        let id = session["sessionId"].as_str().context("the driver names no session")?;
        Ok(Self { session: format!("{url}/session/{id}"), client, _driver: driver, _directory: directory })
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) -> Result<()> {
        self.command("url", &json!({ "url": url })).await?;
        Ok(())
    }

    /// Runs the body of a function with these arguments in the page; what it returned.
    pub(crate) async fn run(&self, script: &str, args: Value) -> Result<Value> {
        self.command("execute/sync", &json!({ "script": script, "args": args })).await
    }

    /// As [`Browser::run`], but the answer is what the script calls its last argument with.
    pub(crate) async fn wait_for(&self, script: &str, args: Value) -> Result<Value> {
        self.command("execute/async", &json!({ "script": script, "args": args })).await
    }

    /// Clicks into the middle of an element, as a person would.
    pub(crate) async fn click(&self, selector: &str) -> Result<()> {
        let element = self.command("element", &json!({ "using": "css selector", "value": selector })).await?;
        let id = element[ELEMENT].as_str().with_context(|| format!("no element {selector}"))?;
        self.command(&format!("element/{id}/click"), &json!({})).await?;
        Ok(())
    }

    /// The errors on the page's console since the last call, failed requests among them.
    pub(crate) async fn complaints(&self) -> Result<Vec<String>> {
        let log = self.command("se/log", &json!({ "type": "browser" })).await?;
        let entries = log.as_array().context("the console is no list")?;
        let errors = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        Ok(errors.map(|entry| entry["message"].to_string()).collect())
    }

    /// What the window shows, as PNG.
    pub(crate) async fn screenshot(&self) -> Result<Vec<u8>> {
        let answer = self.client.get(format!("{}/screenshot", self.session)).send().await?;
        let png = value(answer).await.context("screenshot")?;
        base64::decode(png.as_str().unwrap_or_default()).context("the screenshot is no base64")
    }

    async fn command(&self, name: &str, body: &Value) -> Result<Value> {
        post(&self.client, &format!("{}/{name}", self.session), body).await.with_context(|| name.to_owned())
    }
}

async fn post(client: &Client, url: &str, body: &Value) -> Result<Value> {
    let request = client.post(url).header("content-type", "application/json").body(serde_json::to_vec(body)?);
    value(request.send().await?).await
}

/// The `value` of an answer; an error if it is one.
async fn value(answer: reqwest::Response) -> Result<Value> {
    let succeeded = answer.status().is_success();
    let mut json: Value = serde_json::from_slice(&answer.bytes().await?)?;
    let value = json["value"].take();
    if !succeeded {
        bail!("{}: {}", value["error"].as_str().unwrap_or("error"), value["message"].as_str().unwrap_or_default());
    }
    Ok(value)
}

/// A shell that runs the driver and waits for the end of its input, which comes when this is dropped or the test dies
/// of whatever cause; then it kills its process group: the driver, the browser, and itself.
struct Driver {
    shell: Child,
    output: PathBuf,
}

impl Driver {
    fn start(directory: &Path) -> Result<Self> {
        ensure!(
            is_installed(DRIVER),
            "{DRIVER} is not in PATH: install it and its browser, on Debian the packages chromium-driver and chromium"
        );
        let output = directory.join("driver.log");
        let file = File::create(&output)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" & read -r line; kill -KILL 0", "sh", DRIVER, "--port=0"]);
        shell.env("TMPDIR", directory).process_group(0);
        shell.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        Ok(Self { shell: shell.spawn().context("sh, which guards it")?, output })
    }

    /// The port it chose, as soon as it listens.
    async fn port(&self) -> Result<u16> {
        let give_up = Instant::now() + READY_WITHIN;
        loop {
            let output = fs::read_to_string(&self.output)?;
            let port = output.lines().find_map(|line| line.split_once("started successfully on port "));
            if let Some(port) = port.and_then(|(_, port)| port.trim_end_matches('.').parse().ok()) {
                return Ok(port);
            }
            ensure!(Instant::now() < give_up, "{DRIVER} doesn't listen; it says:\n{output}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _: io::Result<_> = self.shell.wait();
    }
}

fn is_installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}
