import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope, nextTick, ref } from 'vue'
import { useHeld } from './held'

describe('useHeld', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('says nothing of a short break, and ends at once', async () => {
    const source = ref(true)
    const isHeld = effectScope().run(() => useHeld(source, 2_000))
    vi.advanceTimersByTime(1_999)
    expect(isHeld?.value).toBe(false)
    source.value = false
    await nextTick()
    source.value = true
    await nextTick()
    vi.advanceTimersByTime(1_999)
    expect(isHeld?.value).toBe(false)
    vi.advanceTimersByTime(1)
    expect(isHeld?.value).toBe(true)
    source.value = false
    await nextTick()
    expect(isHeld?.value).toBe(false)
  })
})
