// A reference clip from a file or the microphone: decoded here, sent as a small mono WAV, so that the server needs no
// decoder for whatever container the browser records.

import { blobToBase64, wavFromFloats } from "./wav.js";

const RATE = 24000;
const LONGEST_SECONDS = 60;
const SHORTEST_SECONDS = 0.3;
const LARGEST_BYTES = 100e6;

/** -> {blob, base64, seconds}. Throws Error with a sentence for the person. */
export async function readClip(source) {
  if (source.size > LARGEST_BYTES) throw new Error("That file is over 100 MB; cut out up to 60 seconds of speech.");
  let decoded;
  try {
    const context = new OfflineAudioContext(1, 1, RATE);
    decoded = await context.decodeAudioData(await source.arrayBuffer());
  } catch {
    throw new Error("This browser cannot read that file as audio; WAV, MP3 and FLAC always work.");
  }
  if (decoded.duration < SHORTEST_SECONDS) throw new Error("The clip is too short; 3 to 30 seconds work best.");
  const samples = mono(decoded).subarray(0, LONGEST_SECONDS * RATE);
  if (!samples.some((sample) => Math.abs(sample) > 1e-4)) throw new Error("The clip is silent.");
  const blob = wavFromFloats(samples, RATE);
  return { blob, base64: await blobToBase64(blob), seconds: samples.length / RATE };
}

function mono(decoded) {
  const mixed = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    decoded.getChannelData(channel).forEach((sample, i) => { mixed[i] += sample / decoded.numberOfChannels; });
  }
  return mixed;
}

/** Records until stop() or the longest allowed time; `done` resolves to a Blob. */
export class Recording {
  static async start(onSecond) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The microphone needs https, or the page on localhost; uploading a clip works.");
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false } });
    } catch {
      throw new Error("The browser did not allow the microphone; uploading a clip works.");
    }
    return new Recording(stream, onSecond);
  }

  constructor(stream, onSecond) {
    this.stream = stream;
    this.recorder = new MediaRecorder(stream);
    const parts = [];
    this.recorder.ondataavailable = (event) => parts.push(event.data);
    this.done = new Promise((resolve) => {
      this.recorder.onstop = () => {
        clearInterval(this.timer);
        stream.getTracks().forEach((track) => track.stop());
        resolve(new Blob(parts, { type: this.recorder.mimeType }));
      };
    });
    const began = performance.now();
    this.timer = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      onSecond(seconds);
      if (seconds >= LONGEST_SECONDS) this.stop();
    }, 200);
    this.recorder.start();
  }

  stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
  }
}
