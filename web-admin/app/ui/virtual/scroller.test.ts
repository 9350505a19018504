// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope, nextTick, shallowRef, watch } from 'vue'
import type { EffectScope } from 'vue'
import { useScroller } from './scroller'
import type { Scroller } from './scroller'

describe('useScroller', () => {
  const keys = shallowRef<string[]>([])
  const view = shallowRef<HTMLElement | null>(null)
  let frames: FrameRequestCallback[]
  let scope: EffectScope
  let scroller: Scroller
  /** Pixels of the rows as they stand in the page, which follows behind. */
  let drawn: number

  beforeEach(() => {
    frames = []
    vi.stubGlobal('requestAnimationFrame', (run: FrameRequestCallback) => frames.push(run))
    keys.value = ['a', 'b', 'c', 'd', 'e', 'f']
    scope = effectScope()
    scope.run(() => {
      scroller = useScroller(view, () => keys.value, 100, () => undefined)
      drawn = scroller.total.value
      watch(scroller.total, (now) => (drawn = now), { flush: 'post' })
    })
    const element = document.createElement('div')
    Object.defineProperties(element, { scrollHeight: { get: () => drawn }, clientHeight: { value: 200 } })
    view.value = element
  })
  afterEach(() => {
    scope.stop()
    vi.unstubAllGlobals()
  })

  const nextFrame = async () => {
    for (const run of frames.splice(0)) run(0)
    await nextTick()
    await nextTick()
  }

  it('stays at the end of what turns out higher than was thought', async () => {
    scroller.scrollToEnd()
    scroller.measure('f', 340)
    await nextFrame()
    expect(drawn).toBe(840)
    expect(view.value?.scrollTop).toBe(840)
  })

  it('keeps the row at the top where it is, elsewhere', async () => {
    scroller.scrollToRow('c')
    expect(view.value?.scrollTop).toBe(100)
    scroller.measure('a', 150)
    await nextFrame()
    expect(view.value?.scrollTop).toBe(150)
  })
})
