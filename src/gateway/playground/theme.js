// Light, dark, or as the system has it; what was chosen is kept in the browser.
const KEPT = "chorus-theme"

/** @param {HTMLSelectElement} select */
export const chooseTheme = (select) => {
  const apply = () => {
    const { value } = select
    if (value === "auto") delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = value
  }
  select.value = kept()
  apply()
  select.addEventListener("change", () => {
    apply()
    try {
      localStorage.setItem(KEPT, select.value)
    } catch {
      // a browser that keeps nothing: the choice lasts as long as the page
    }
  })
}

const kept = () => {
  try {
    const value = localStorage.getItem(KEPT)
    return value === "light" || value === "dark" ? value : "auto"
  } catch {
    return "auto"
  }
}
