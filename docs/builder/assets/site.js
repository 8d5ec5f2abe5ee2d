// A region that scrolls can be scrolled with the keyboard.
window.addEventListener("load", () => {
  for (const region of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
  }
});
