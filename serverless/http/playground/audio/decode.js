// Whole files as samples.

const RATE = 24000;

/** Mono samples at 24 kHz of a file that this browser can read. */
export async function samplesOf(blob) {
  const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await blob.arrayBuffer());
  return decoded.getChannelData(0);
}
