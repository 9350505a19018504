/**
 * The frame's side of the talk with the host page. The address claims the page's origin; the browser
 * then delivers to that origin only, and only its messages are believed.
 */

import { HOST_PARAMETER } from './host-protocol'
import type { ToChat, ToHost } from './host-protocol'

export interface Host {
  post(message: ToHost): void
  onShown(listener: (shown: boolean) => void): void
}

/** The page that embeds us, or null when the chat is a page of its own. */
export function findHost(frame: Window): Host | null {
  const origin = new URLSearchParams(frame.location.hash.slice(1)).get(HOST_PARAMETER)
  const { parent } = frame
  if (origin === null || parent === frame) return null
  return {
    post(message) {
      parent.postMessage(message, origin)
    },
    onShown(listener) {
      frame.addEventListener('message', (event) => {
        if (event.source !== parent || event.origin !== origin) return
        const data = event.data as Partial<ToChat> | null
        if (data?.botyard === 'shown') listener(data.shown === true)
      })
    },
  }
}
