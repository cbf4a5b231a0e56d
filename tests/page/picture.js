// Draws the picture on screen and returns its grey pixels with the time it was drawn at.
const { hls, shaka, video } = window.starling;
const [width, height] = [640, 360];
const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });

context.drawImage(video, 0, 0, width, height);
const drawn = Date.now();
const date = (hls ? hls.playingDate : shaka.getPlayheadTimeAsDate()).getTime();

const { data } = context.getImageData(0, 0, width, height);
let gray = "";
for (let at = 0; at < data.length; at += 4) {
  gray += String.fromCharCode((data[at] * 299 + data[at + 1] * 587 + data[at + 2] * 114) / 1000);
}
return { width, height, gray: btoa(gray), drawn, date };
