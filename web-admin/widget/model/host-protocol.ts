/** What the loader on the host page and the chat in its frame tell each other by postMessage. */

/** The host page's origin comes to the frame in the address: `/webchat/<token>#host=<origin>`. */
export const HOST_PARAMETER = 'host'

export type ToHost =
  | { botyard: 'unread'; count: number }
  | { botyard: 'close' }

export interface ToChat {
  botyard: 'shown'
  shown: boolean
}
