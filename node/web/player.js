// The viewer's page: plays /live/index.m3u8, shows /api/stats, switches sharing.
"use strict";

const PLAYLIST = new URL("/live/index.m3u8", location.href).href;
const element = (id) => document.getElementById(id);
const video = element("video");

// For tests and the curious.
window.starling = { hls: null, video };

play();
watchStats();
wireSwitch();
wireCopy();

// ---- Picture

function play() {
  if (window.Hls?.isSupported()) {
    element("engine").textContent = `hls.js ${Hls.version}`;
    playWithLibrary();
    return;
  }
  const native = video.canPlayType("application/vnd.apple.mpegurl") !== "";
  element("engine").textContent = window.Hls ? "this browser's own player" : "built without hls.js";
  element("missing").hidden = Boolean(window.Hls);
  element("native").hidden = !native;
  if (native) {
    playNatively();
  } else if (window.Hls) {
    trouble("This browser can't play live streams. Use the address below in another player.");
  }
}

function playWithLibrary() {
  // In low latency a hiccup is made up for by playing 5 % faster, which nobody sees or hears.
  const hls = new Hls({ startFragPrefetch: true, backBufferLength: 30, maxLiveSyncPlaybackRate: 1.1, liveSyncOnStallIncrease: 0.25 });
  window.starling.hls = hls;
  let opened = false;
  let recovered = 0;
  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    opened = true;
    trouble("");
    video.play().catch(() => {}); // A browser that forbids it shows its play button.
  });
  hls.on(Hls.Events.FRAG_BUFFERED, () => trouble(""));
  hls.on(Hls.Events.ERROR, (_, error) => {
    if (!error.fatal) return;
    if (error.type === Hls.ErrorTypes.MEDIA_ERROR && Date.now() - recovered > 5000) {
      recovered = Date.now();
      hls.recoverMediaError();
      return;
    }
    trouble(explained(error));
    setTimeout(() => (opened ? hls.startLoad() : hls.loadSource(PLAYLIST)), 2000);
  });
  hls.attachMedia(video);
  hls.loadSource(PLAYLIST);
}

function explained(error) {
  if (error.details.startsWith("key")) return `The key of this encrypted stream can't be loaded (${error.url ?? error.details}).`;
  if (error.type === Hls.ErrorTypes.NETWORK_ERROR) return "Waiting for the stream…";
  return `The picture can't be played (${error.details}); trying again.`;
}

function playNatively() {
  const open = () => {
    video.src = PLAYLIST;
    video.play().catch(() => {});
  };
  video.addEventListener("error", () => setTimeout(open, 2000));
  open();
}

/** Seconds from capture to the picture on screen; null if the player can't tell. */
function playedLag() {
  const { hls } = window.starling;
  let date = hls?.playingDate ?? null;
  if (!hls && video.getStartDate) date = new Date(video.getStartDate().getTime() + video.currentTime * 1000);
  const lag = date === null ? NaN : (Date.now() - date.getTime()) / 1000;
  return Number.isFinite(lag) ? Math.max(0, lag) : null;
}

// ---- Figures

async function watchStats() {
  for (let failures = 0; ; ) {
    try {
      const response = await fetch("/api/stats", { signal: AbortSignal.timeout(5000) });
      if (!response.ok) throw new Error(response.statusText);
      show(await response.json());
      failures = 0;
    } catch {
      failures += 1;
    }
    const offline = failures > 1;
    element("offline").hidden = !offline;
    element("upload").disabled = failures > 0;
    if (offline) badge("No answer", "");
    await new Promise((wake) => setTimeout(wake, 1000));
  }
}

function show(stats) {
  const name = stats.stream || "Starling";
  element("name").textContent = name;
  document.title = name === "Starling" ? name : `${name} · Starling`;
  showBadge(stats);
  const lag = playedLag();
  if (lag === null) put("lag", seconds(stats.lag_seconds), "ready to play here");
  else put("lag", seconds(lag), stats.lag_seconds === null ? "" : `newest here: ${seconds(stats.lag_seconds)}`);
  put("startup", seconds(stats.startup_seconds));
  put("stalls", String(stats.stalls.count), stats.stalls.count ? `${seconds(stats.stalls.seconds)} in all` : "");
  put("from-peers", bytes(stats.received.peers - stats.received.broadcaster), stats.rejected_chunks ? `${stats.rejected_chunks} bad pieces refused` : "");
  put("from-origin", bytes(stats.received.origin + stats.received.broadcaster));
  put("sent", bytes(stats.sent.peers), stats.upload.limit_bps ? `at most ${rate(stats.upload.limit_bps)}` : "");
  showSwitch(stats.upload.enabled);
  // An alert is read out when its text changes, so it must only change when there is news.
  const notice = stats.notice ? `${stats.notice[0].toUpperCase()}${stats.notice.slice(1)}.` : "";
  if (element("notice").textContent !== notice) element("notice").textContent = notice;
  element("notice").hidden = notice === "";
}

function showBadge({ received, neighbours, upload }) {
  const share = (received.peers - received.broadcaster) / Math.max(1, received.peers + received.origin);
  if (!received.peers && !received.origin) return badge("Joining the stream…", "");
  const percent = `${Math.round(share * 100)} %`;
  const source = neighbours
    ? `${percent} from ${neighbours === 1 ? "1 neighbour" : `${neighbours} neighbours`}`
    : share > 0 ? `${percent} from other viewers so far` : "100 % from the origin";
  const sharing = upload.enabled ? `uploading ${rate(upload.rate_bps)}` : "not sharing";
  badge(`${source} · ${sharing}`, share >= 0.5 ? "peers" : "origin");
}

function badge(text, dot) {
  element("share").textContent = text;
  element("share-dot").className = dot;
}

function put(id, text, more) {
  element(id).textContent = text;
  if (more !== undefined) element(`${id}-more`).textContent = more;
}

function seconds(value) {
  return value === null ? "–" : `${value.toFixed(1)} s`;
}

function rate(bitsPerSecond) {
  return bitsPerSecond < 1e6 ? `${Math.round(bitsPerSecond / 1e3)} kbit/s` : `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}

function bytes(count) {
  if (count < 1e6) return `${Math.round(count / 1e3)} kB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
}

function trouble(text) {
  element("trouble").textContent = text;
  element("trouble").hidden = text === "";
}

// ---- Switch

/** Until when the switch shows what was chosen rather than what is reported, which lags behind. */
let chosenUntil = 0;

function wireSwitch() {
  element("upload").addEventListener("change", async ({ target }) => {
    chosenUntil = Date.now() + 3000;
    try {
      const body = JSON.stringify({ enabled: target.checked });
      const response = await fetch("/api/upload", { method: "POST", headers: { "content-type": "application/json" }, body });
      if (!response.ok) throw new Error(await response.text());
    } catch {
      chosenUntil = 0; // The next report puts it back.
    }
  });
}

function showSwitch(enabled) {
  if (Date.now() > chosenUntil) element("upload").checked = enabled;
}

// ---- Link

function wireCopy() {
  const link = element("playlist");
  link.textContent = PLAYLIST;
  link.href = PLAYLIST;
  element("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(PLAYLIST);
      element("copy").textContent = "Copied";
      setTimeout(() => (element("copy").textContent = "Copy"), 1500);
    } catch {
      getSelection().selectAllChildren(link); // Without the right to copy: ready for Ctrl-C.
    }
  });
}
