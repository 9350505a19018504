// @vitest-environment happy-dom
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { createApp, effectScope } from 'vue'
import type { App } from 'vue'
import { createI18n } from 'vue-i18n'
import { offered, press, useCommands } from './registry'
import ShortcutSheet from './ShortcutSheet.vue'

const APP = join(import.meta.dirname, '..')
const sources = readdirSync(APP, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(vue|ts)$/.test(name) && !name.endsWith('.test.ts'))
  .map((name) => ({ name, text: readFileSync(join(APP, name), 'utf8') }))

/** Keys of the commands that a part of the dashboard adds, as they stand in its source. */
function keysIn(folder: string): string[] {
  return sources
    .filter(({ name, text }) => name.startsWith(folder) && text.includes('useCommands('))
    .flatMap(({ text }) => [...text.matchAll(/\bid: ['`][^}]*?\bkey: '([^']+)'/g)].map(([, key = '']) => key))
}

let app: App | undefined

afterEach(() => {
  app?.unmount()
  document.body.innerHTML = ''
})

function keysOfSheet(): string[] {
  HTMLDialogElement.prototype.showModal = vi.fn()
  const root = document.createElement('div')
  document.body.append(root)
  app = createApp(ShortcutSheet)
  app.use(createI18n({ legacy: false, locale: 'en', messages: { en: {} }, missingWarn: false, fallbackWarn: false }))
  app.mount(root)
  const [commands] = [...root.querySelectorAll('dl')]
  return [...(commands?.querySelectorAll('dt') ?? [])].map((key) =>
    [...key.querySelectorAll('kbd')].map((cap) => cap.textContent).join('+'),
  )
}

function presses(key: string): void {
  const [name = '', isMod] = [key.replace('mod+', ''), key.startsWith('mod+')]
  const event = new KeyboardEvent('keydown', { key: name, ctrlKey: isMod, cancelable: true, bubbles: true })
  document.addEventListener('keydown', (heard) => press(heard), { once: true })
  document.body.dispatchEvent(event)
}

describe('the sheet of keys', () => {
  it('has every key that is bound, and every key in it does what it says', () => {
    const within = effectScope(true)
    const runs = ['j', '?', 'End', 'mod+e'].map((key) => ({ key, run: vi.fn<() => void>() }))
    within.run(() => {
      useCommands(runs.map(({ key, run }) => ({ id: key, title: key, key, run })))
      useCommands([{ id: 'without', title: 'without', run: vi.fn<() => void>() }])
    })
    expect(keysOfSheet()).toEqual(['J', '?', 'End', 'Ctrl+E'])
    for (const { key } of offered()) if (key) presses(key)
    expect(runs.map(({ run }) => run.mock.calls.length)).toEqual([1, 1, 1, 1])
    within.stop()
  })

  it('is the only place that keys of the page are bound for', () => {
    const listeners = sources.filter(({ text }) => /(?:document|window)\.addEventListener\('keydown'/.test(text))
    expect(listeners.map(({ name }) => name)).toEqual(['commands/CommandLayer.vue'])
  })

  it('has each key once in the inbox', () => {
    // Views have the digits; owners' actions name theirs apart.
    const keys = [...keysIn('features/inbox'), ...keysIn('commands'), 't', 'b', 'e', '1', '2', '3', '4', '5', '6', '7']
    expect(keys.length).toBeGreaterThan(20)
    expect(keys.filter((key, index) => keys.indexOf(key) !== index)).toEqual([])
  })
})
