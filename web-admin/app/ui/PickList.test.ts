// @vitest-environment happy-dom
import { describe, expect, it, vi } from 'vitest'
import { createApp, h, nextTick, ref } from 'vue'
import PickList from './PickList.vue'
import type { Choice } from './PickList.vue'

const CHOICES = ['one', 'two', 'three'].map((id) => ({ id, title: id }))

function open(choices: Choice[] = CHOICES, late = false) {
  const root = document.createElement('div')
  const picked = vi.fn<(id: string) => void>()
  const dismissed = vi.fn<() => void>()
  const shown = ref(choices)
  const list = ref<InstanceType<typeof PickList>>()
  createApp({
    render: () =>
      h(PickList, {
        ref: list,
        id: 'list',
        choices: shown.value,
        label: 'Names',
        none: 'nobody',
        late,
        onPick: picked,
        onDismiss: dismissed,
      }),
  }).mount(root)
  const press = (key: string, init: KeyboardEventInit = {}) => {
    const event = new KeyboardEvent('keydown', { key, cancelable: true, ...init })
    return { isTaken: list.value?.press(event) === true, event }
  }
  const active = async () => {
    await nextTick()
    return root.querySelector('[aria-selected=true]')?.textContent
  }
  return { root, picked, dismissed, shown, press, active, list }
}

describe('PickList', () => {
  it('moves round and picks by keys that the field hands on', async () => {
    const { press, active, picked, list } = open()
    expect(await active()).toBe('one')
    press('ArrowUp')
    expect(await active()).toBe('three')
    press('ArrowDown')
    press('ArrowDown')
    expect(await active()).toBe('two')
    expect(list.value?.activeId).toBe('list-1')
    const { isTaken, event } = press('Enter')
    expect([isTaken, event.defaultPrevented]).toEqual([true, true])
    expect(picked).toHaveBeenCalledWith('two')
  })

  it('leaves the keys to an input method, and other keys to the field', () => {
    const { press, picked } = open()
    expect(press('Enter', { isComposing: true }).isTaken).toBe(false)
    expect(press('a').isTaken).toBe(false)
    expect(picked).not.toHaveBeenCalled()
  })

  it('takes no Enter when there is nothing to pick, but can be left', () => {
    const { press, dismissed, root } = open([])
    expect(root.textContent).toBe('nobody')
    expect(press('Enter').isTaken).toBe(false)
    expect(press('Escape').isTaken).toBe(true)
    expect(dismissed).toHaveBeenCalledOnce()
  })

  it('keeps an Enter to itself while choices are still to come', () => {
    const { press, picked } = open([], true)
    expect(press('Enter').isTaken).toBe(true)
    expect(picked).not.toHaveBeenCalled()
  })

  it('begins at the top again when the choices change', async () => {
    const { press, active, shown } = open()
    press('ArrowDown')
    shown.value = CHOICES.slice(1)
    expect(await active()).toBe('two')
  })

  it('picks by a click', () => {
    const { root, picked } = open()
    root.querySelectorAll('li')[2]?.click()
    expect(picked).toHaveBeenCalledWith('three')
  })
})
