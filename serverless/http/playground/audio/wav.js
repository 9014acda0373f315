// PCM bytes, floats and WAV files. Everything here is mono.

export function base64ToBytes(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export async function blobToBase64(blob) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

/** Little-endian PCM16 that arrives in pieces of any length, odd ones too. */
export class Pcm16Reader {
  #left = null;

  read(bytes) {
    let joined = bytes;
    if (this.#left !== null) {
      joined = new Uint8Array(bytes.length + 1);
      joined[0] = this.#left;
      joined.set(bytes, 1);
    }
    this.#left = joined.length % 2 ? joined[joined.length - 1] : null;
    const view = new DataView(joined.buffer, joined.byteOffset, joined.length & ~1);
    const samples = new Float32Array(view.byteLength / 2);
    for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
    return samples;
  }
}

/** A WAV file around PCM16 bytes that are already there: what is saved is what was received. */
export function wavFromPcm16(parts, rate) {
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const ascii = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  ascii(0, "RIFF");
  header.setUint32(4, 36 + length, true);
  ascii(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  ascii(36, "data");
  header.setUint32(40, length, true);
  return new Blob([header, ...parts], { type: "audio/wav" });
}

export function wavFromFloats(samples, rate) {
  const pcm = new DataView(new ArrayBuffer(samples.length * 2));
  samples.forEach((sample, i) => pcm.setInt16(2 * i, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true));
  return wavFromPcm16([pcm], rate);
}
