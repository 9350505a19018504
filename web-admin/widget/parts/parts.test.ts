// @vitest-environment happy-dom
import { afterEach, describe, expect, it } from 'vitest'
import { createApp, nextTick } from 'vue'
import type { App, Component } from 'vue'
import { MAX_TEXT_CHARACTERS } from '../model/protocol'
import ChatComposer from './ChatComposer.vue'
import MessageBubble from './MessageBubble.vue'
import OutgoingBubble from './OutgoingBubble.vue'

let app: App | undefined

function mount(component: Component, props: Record<string, unknown>): HTMLElement {
  const root = document.createElement('div')
  document.body.append(root)
  app = createApp(component, props)
  app.mount(root)
  return root
}

function find<T extends Element>(root: HTMLElement, selector: string): T {
  const element = root.querySelector<T>(selector)
  if (!element) throw new Error(`no ${selector}`)
  return element
}

afterEach(() => {
  app?.unmount()
})

describe('ChatComposer', () => {
  async function write(text: string, full = false) {
    const sent: string[] = []
    const root = mount(ChatComposer, { full, onCompose: (message: string) => sent.push(message) })
    const input = find<HTMLTextAreaElement>(root, 'textarea')
    input.value = text
    input.dispatchEvent(new Event('input'))
    await nextTick()
    const press = async (options: KeyboardEventInit) => {
      const event = new KeyboardEvent('keydown', { key: 'Enter', cancelable: true, ...options })
      input.dispatchEvent(event)
      await nextTick()
      return event
    }
    return { root, input, press, sent }
  }

  it('sends on Enter and empties itself', async () => {
    const { input, press, sent } = await write('  你好 ')
    const event = await press({})
    expect(sent).toEqual(['你好'])
    expect(input.value).toBe('')
    expect(event.defaultPrevented).toBe(true)
  })

  it.each([{ isComposing: true }, { keyCode: 229 }, { shiftKey: true }, { key: 'a' }])(
    'leaves %j to the field',
    async (options) => {
      const { press, sent } = await write('nihao')
      const event = await press(options)
      expect(sent).toEqual([])
      expect(event.defaultPrevented).toBe(false)
    },
  )

  it('counts characters as the server does and says when there are too many', async () => {
    const { root, press, sent } = await write('😀'.repeat(MAX_TEXT_CHARACTERS))
    expect(find<HTMLButtonElement>(root, '.send').disabled).toBe(false)
    await press({})
    expect(sent).toHaveLength(1)
    const tooLong = await write('a'.repeat(MAX_TEXT_CHARACTERS + 1))
    await tooLong.press({})
    expect(tooLong.sent).toEqual([])
    expect(find(tooLong.root, '[role=alert]').textContent).toContain('4001')
  })

  it('keeps the text when too many messages wait', async () => {
    const { input, press, sent } = await write('你好', true)
    await press({})
    expect(sent).toEqual([])
    expect(input.value).toBe('你好')
  })
})

describe('MessageBubble', () => {
  it('shows markup as the text that it is', () => {
    const text = '<img src=x onerror=alert(1)><b>bold</b>'
    const message = {
      id: 'm1',
      sender: { kind: 'bot', name: null },
      segments: [{ type: 'text', text, picture: null }],
      at: '',
      clientId: null,
    }
    const root = mount(MessageBubble, { message })
    expect(find(root, '.bubble').textContent).toBe(text)
    expect(root.querySelector('img, b')).toBeNull()
  })
})

describe('OutgoingBubble', () => {
  it('gives the reason of a refusal and offers to send again', () => {
    let retries = 0
    const refusal = { code: 'too_long', detail: 'Too long.' }
    const outgoing = { id: 'c1', text: 'hi', picture: null, at: '', refusal }
    const root = mount(OutgoingBubble, { outgoing, onRetry: () => (retries += 1) })
    expect(root.textContent).toContain('Too long.')
    find<HTMLButtonElement>(root, 'button').click()
    expect(retries).toBe(1)
  })
})
