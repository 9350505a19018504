/** Two short notes. */

const NOTES = [
  { hertz: 660, at_s: 0 },
  { hertz: 880, at_s: 0.12 },
]
const LOUDNESS = 0.08
const LENGTH_S = 0.25

let context: AudioContext | undefined

/** A browser that has seen no click yet lets nothing sound; then there is the notification. */
export async function chime(): Promise<void> {
  context ??= new AudioContext()
  if (context.state === 'suspended') await context.resume()
  for (const { hertz, at_s: after } of NOTES) {
    const at = context.currentTime + after
    const tone = new OscillatorNode(context, { frequency: hertz })
    const volume = new GainNode(context, { gain: LOUDNESS })
    volume.gain.setValueAtTime(LOUDNESS, at)
    volume.gain.exponentialRampToValueAtTime(0.001, at + LENGTH_S)
    tone.connect(volume).connect(context.destination)
    tone.start(at)
    tone.stop(at + LENGTH_S)
  }
}
