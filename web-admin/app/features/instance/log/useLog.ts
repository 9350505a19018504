/** An instance's log on the page: what of it is shown, sought and found. */

import { computed, ref } from 'vue'
import { LogBuffer } from './buffer'
import type { Entry } from './buffer'
import { Finder, placeOf } from './finder'
import { useFollowed } from './useFollowed'

export function useLog(instanceId: string) {
  const buffer = new LogBuffer()
  const finder = new Finder()
  const level = ref(0)
  const sought = ref('')
  // The buffer changes in place; whoever reads it reads this, too.
  const version = ref(0)
  const followed = useFollowed(instanceId, buffer, () => {
    version.value += 1
  })

  const entries = computed<readonly Entry[]>(() => {
    void version.value
    return level.value === 0 ? buffer.shown.slice() : buffer.shown.filter((entry) => entry.level >= level.value)
  })
  const found = computed(() => finder.find(entries.value, sought.value, level.value).slice())
  const held = computed(() => {
    void version.value
    return { isPaused: buffer.isPaused, waiting: buffer.waiting, lost: buffer.lost }
  })

  function togglePause(): void {
    if (buffer.isPaused) buffer.resume()
    else buffer.pause()
    version.value += 1
  }

  return { ...followed, level, sought, entries, found, held, togglePause }
}

/** The match behind this one, or before it, round and round; null where there is none. */
export function nextMatch(found: readonly number[], current: number | null, step: 1 | -1): number | null {
  if (found.length === 0) return null
  if (current === null) return (step === 1 ? found[0] : found.at(-1)) ?? null
  const at = placeOf(
    found.map((number) => ({ number, text: '', level: 0 })),
    current,
  )
  const isHere = found[at] === current
  const next = step === 1 ? at + (isHere ? 1 : 0) : at - 1
  return found[(next + found.length) % found.length] ?? null
}
