// Watches the playhead for arguments[0] seconds of wall time, four times a second.
const [seconds, done] = arguments;
const { hls, shaka, video } = window.starling;
const events = [];

for (const type of ["waiting", "stalled", "pause", "ended", "seeking", "error", "emptied"]) {
  video.addEventListener(type, () => events.push(`${type} at ${video.currentTime}`));
}
shaka?.addEventListener("error", ({ detail }) => events.push(`Shaka error ${detail.code} at ${video.currentTime}`));
hls?.on("hlsError", (_, error) => events.push(`${error.fatal ? "fatal " : ""}${error.details} at ${video.currentTime}`));

const now = () => performance.now() / 1000;
const first = { wall: now(), position: video.currentTime };
let last = first;
let standstill = 0;

const sampling = setInterval(() => {
  const sample = { wall: now(), position: video.currentTime };
  standstill = Math.max(standstill, sample.wall - last.wall);
  if (sample.position > last.position) last = sample;
  if (sample.wall - first.wall < seconds) return;
  clearInterval(sampling);
  done({ wall: sample.wall - first.wall, advance: sample.position - first.position, standstill, events });
}, 250);
