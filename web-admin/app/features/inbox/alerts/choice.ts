/** Whether this browser alerts: asked once, off until somebody says yes. */

import { ref, watch } from 'vue'

const KEY = 'botyard.alerts'
type Choice = 'on' | 'off' | ''

function stored(): Choice {
  const choice = localStorage.getItem(KEY)
  return choice === 'on' || choice === 'off' ? choice : ''
}

/** Empty before somebody was asked. */
export const choice = ref<Choice>(stored())
watch(choice, (now) => {
  localStorage.setItem(KEY, now)
})
window.addEventListener('storage', ({ key }) => {
  if (key === KEY) choice.value = stored()
})

function isBlocked(): boolean {
  return !('Notification' in window) || Notification.permission === 'denied'
}

/** This browser shows no notifications, whatever somebody chose here. */
export const isSoundOnly = ref(isBlocked())

/** From a click, which browsers want to see before they let a page ask or sound. */
export async function choose(isOn: boolean): Promise<void> {
  choice.value = isOn ? 'on' : 'off'
  if (isOn && 'Notification' in window && Notification.permission === 'default') {
    await Notification.requestPermission()
  }
  isSoundOnly.value = isBlocked()
}
