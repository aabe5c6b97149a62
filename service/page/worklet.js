// Gathers the microphone's samples into chunks of 16-bit samples, at the rate at which they come.

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.length = processorOptions.length;
    this.chunk = new Int16Array(this.length);
    this.filled = 0;
  }

  process([channels]) {
    const count = channels.length;
    if (!count) return true; // nothing is connected yet
    for (let n = 0; n < channels[0].length; n++) {
      let sum = 0;
      for (const channel of channels) sum += channel[n];
      this.chunk[this.filled++] = Math.max(-32768, Math.min(32767, Math.round((32768 * sum) / count)));
      if (this.filled === this.length) {
        this.port.postMessage(this.chunk.buffer, [this.chunk.buffer]);
        this.chunk = new Int16Array(this.length);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
