// @vitest-environment happy-dom
import { describe, expect, it, vi } from 'vitest'
import { effectScope } from 'vue'
import { matching, offered, press, useCommands } from './registry'
import type { Command } from './registry'


function add(command: Partial<Command> & { id: string }, within: ReturnType<typeof effectScope>) {
  const run = vi.fn<() => void>()
  within.run(() => {
    useCommands([{ title: command.id, run, ...command }])
  })
  return run
}

function type(key: string, init: KeyboardEventInit = {}, target: HTMLElement = document.body): boolean {
  if (target !== document.body) document.body.append(target)
  const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...init })
  let isPressed = false
  document.addEventListener('keydown', (heard) => (isPressed = press(heard)), { once: true })
  target.dispatchEvent(event)
  return isPressed
}


describe('commands', () => {
  it('run by their key, but not while somebody writes or an input method chooses', () => {
    const within = effectScope(true)
    const run = add({ id: 'next', key: 'j' }, within)
    expect(type('j')).toBe(true)
    expect(type('j', {}, document.createElement('textarea'))).toBe(false)
    expect(type('j', { isComposing: true })).toBe(false)
    expect(type('j', { ctrlKey: true })).toBe(false)
    expect(run).toHaveBeenCalledOnce()
    within.stop()
    expect(type('j')).toBe(false)
  })

  it('with Ctrl or ⌘ run everywhere', () => {
    const within = effectScope(true)
    const run = add({ id: 'palette', key: 'mod+k' }, within)
    type('k', { ctrlKey: true }, document.createElement('input'))
    type('K', { metaKey: true })
    expect(run).toHaveBeenCalledTimes(2)
    within.stop()
  })

  it('are offered only where they do something, and a later one stands in for an earlier', () => {
    const [outer, later] = [effectScope(true), effectScope(true)]
    add({ id: 'a', isOffered: () => false }, outer)
    const first = add({ id: 'b', key: 'x' }, outer)
    const second = add({ id: 'b', key: 'x' }, later)
    expect(offered().map(({ id }) => id)).toEqual(['b'])
    type('x')
    later.stop()
    type('x')
    expect([first.mock.calls.length, second.mock.calls.length]).toEqual([1, 1])
    outer.stop()
  })
})

describe('matching', () => {
  it('finds titles that hold every word', () => {
    expect(matching(['Take over', 'Hand back to the bot', '接管'], 'TO bot')).toEqual([1])
    expect(matching(['Take over', '接管'], '接')).toEqual([1])
    expect(matching(['a', 'b'], ' ')).toEqual([0, 1])
  })
})
