// @vitest-environment happy-dom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { effectScope, nextTick, shallowRef } from 'vue'
import type { EffectScope } from 'vue'
import { unreachable } from '../../api/problem'
import { useSeen } from './useSeen'
import type { Sight } from './useSeen'

const settled = () => new Promise((resolve) => setImmediate(resolve))

describe('useSeen', () => {
  const mark = vi.fn<(seen: Sight) => Promise<unknown>>()
  const sight = shallowRef<Sight | null>(null)
  let scope: EffectScope
  let isFocused = true

  beforeEach(() => {
    mark.mockReset().mockResolvedValue(undefined)
    vi.spyOn(document, 'hasFocus').mockImplementation(() => isFocused)
    isFocused = true
    sight.value = null
    scope = effectScope()
  })
  afterEach(() => {
    scope.stop()
  })

  const open = () => {
    scope.run(() => {
      useSeen(() => sight.value, mark)
    })
  }
  const see = async (number: number, noteId: string | null = null) => {
    sight.value = { number, noteId }
    await nextTick()
    await settled()
  }
  const look = async (focused: boolean) => {
    isFocused = focused
    window.dispatchEvent(new Event(focused ? 'focus' : 'blur'))
    await settled()
  }
  const told = () => mark.mock.calls.map(([{ number, noteId }]) => [number, noteId])

  it('tells of what lies before somebody’s eyes, once', async () => {
    open()
    await see(3)
    await see(3)
    await see(4)
    expect(told()).toEqual([[3, null], [4, null]])
  })

  it('tells nothing while nobody looks, and all at once when they do', async () => {
    open()
    await look(false)
    await see(3)
    await see(5)
    expect(told()).toEqual([])
    await look(true)
    expect(told()).toEqual([[5, null]])
  })

  it('tells of a new note behind the same message', async () => {
    open()
    await see(3)
    await see(3, 'note')
    expect(told()).toEqual([[3, null], [3, 'note']])
  })

  it('asks one after the other, and passes over what has been outrun', async () => {
    let answer: (value?: unknown) => void = () => undefined
    mark.mockImplementationOnce(() => new Promise((resolve) => (answer = resolve)))
    open()
    await see(1)
    await see(2)
    await see(3)
    expect(told()).toEqual([[1, null]])
    answer()
    await settled()
    expect(told()).toEqual([[1, null], [3, null]])
  })

  it('tells it again at the next look when the server was away', async () => {
    mark.mockRejectedValueOnce(unreachable())
    open()
    await see(3)
    await look(false)
    await look(true)
    expect(told()).toEqual([[3, null], [3, null]])
  })
})
